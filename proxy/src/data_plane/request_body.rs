//! The client's request body on its way to the app, and the reading of what the app did not want.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::activity::{Activity, ClientState};

/// Maximum number of bytes of an unread body that are discarded.
const DISCARD_BYTES: usize = 256 * 1024;
/// Maximum time that an unread body is read for.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// A client's request body.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// An empty body: the request can be sent twice.
    Empty,
    /// A body that streams through.
    Client(ClientBody),
}

/// A body that comes from a client.
#[derive(Debug)]
pub(super) struct ClientBody {
    incoming: Option<Incoming>,
    activity: Arc<Activity>,
    body_drain: BodyDrain,
}

/// The queue of bodies that are no longer wanted.
///
/// They are read on for a while: the close would otherwise reset the connection, and the client
/// might never see its response (hyperium/hyper#2384).
pub(super) type BodyDrain = mpsc::UnboundedSender<UnreadBody>;

/// The rest of a body whose request has been answered.
#[derive(Debug)]
pub(super) struct UnreadBody {
    incoming: Incoming,
    activity: Arc<Activity>,
}

// === impl RequestBody ===

impl RequestBody {
    /// Wraps `incoming`; the rest of it goes to `body_drain` when the body is dropped early.
    pub(super) fn new(
        incoming: Incoming,
        activity: &Arc<Activity>,
        body_drain: &BodyDrain,
    ) -> Self {
        if incoming.is_end_stream() {
            Self::Empty
        } else {
            Self::Client(ClientBody {
                incoming: Some(incoming),
                activity: Arc::clone(activity),
                body_drain: body_drain.clone(),
            })
        }
    }

    fn incoming(&self) -> Option<&Incoming> {
        match self {
            Self::Empty => None,
            Self::Client(body) => body.incoming.as_ref(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Client(body) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let Some(incoming) = &mut body.incoming else {
            return Poll::Ready(None);
        };
        Pin::new(incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        self.incoming().map_or_else(nothing, Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|body| !body.is_end_stream()) {
            let activity = Arc::clone(&self.activity);
            // Fails only when the worker has ended, and the connection with it.
            let _ = self.body_drain.send(UnreadBody { incoming, activity });
        }
    }
}

// === impl UnreadBody ===

impl UnreadBody {
    /// Reads the rest and throws it away, within [`DISCARD_BYTES`] and [`DISCARD_TIME`].
    pub(super) async fn discard(mut self) {
        let mut read = 0;
        let all = async {
            // Once its request is answered, hyper reports the end of a body without a length only
            // when the next head arrives.
            while !self.incoming.is_end_stream()
                && let Some(Ok(frame)) = self.incoming.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > DISCARD_BYTES {
                    break;
                }
            }
        };
        // A client that sends for longer does not read its response either.
        let _ = tokio::time::timeout(DISCARD_TIME, all).await;
        if self.activity.state() == ClientState::Head {
            // The bytes of the body were taken for those of the next head.
            self.activity.enter(ClientState::Idle);
        }
    }
}
