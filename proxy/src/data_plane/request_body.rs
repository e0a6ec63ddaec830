//! The client's request body on its way to the app, and the reading of what the app did not want.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::activity::{Activity, BodyState, ClientState, Ending};
use super::client_streams::OpenStream;
use super::paced_body::{Overdue, PacedBody};
use super::settings::ClientLimits;

/// Maximum number of bytes of an unread body that are discarded.
const DISCARD_BYTES: usize = 256 * 1024;
/// Maximum time that an unread body is read for.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Maximum number of bytes of a body that are kept to be sent again.
const KEEP_BYTES: usize = 64 * 1024;

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
    source: BodySource,
    activity: Arc<Activity>,
    body_drain: BodyDrain,
}

/// The rest of a body that comes from a client.
#[derive(Debug, Default)]
enum BodySource {
    Client(Incoming),
    /// That of a stream.
    Stream(Box<PacedBody>),
    /// Parts that have been sent before come first.
    Again(Box<(KeptBody, Self)>),
    #[default]
    Nothing,
}

/// The beginning of a body that may have to be sent again.
#[derive(Debug, Default)]
pub(super) struct KeptBody {
    parts: VecDeque<Bytes>,
    size: usize,
    /// It is not the whole beginning, or its end has been sent: it cannot be sent again.
    is_lost: bool,
}

/// A body that did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It broke off, or is malformed.
    #[error("the client's request was cut off: {0}")]
    Broken(#[from] hyper::Error),
    /// The client was too slow.
    #[error("the rest of the request did not come in time")]
    Overdue,
}

/// The queue of bodies that are no longer wanted, and that end soon.
///
/// They are read on for a while, so that the connection can be kept.
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
        stream: impl FnOnce() -> Option<(Rc<OpenStream>, ClientLimits)>,
    ) -> Self {
        if incoming.is_end_stream() {
            Self::Empty
        } else {
            activity.set_body(BodyState::Wanted);
            Self::Client(ClientBody {
                source: match stream() {
                    None => BodySource::Client(incoming),
                    Some((stream, limits)) => {
                        BodySource::Stream(Box::new(PacedBody::new(incoming, stream, limits)))
                    }
                },
                activity: Arc::clone(activity),
                body_drain: body_drain.clone(),
            })
        }
    }

    /// Continues beside the response, which has begun. Unless the rest is short, the connection is to
    /// end with that response if the app will not take the rest.
    pub(super) fn continue_beside_response(&self, is_refused: bool) {
        let Self::Client(body) = self else {
            return;
        };
        body.activity.set_body(BodyState::BesideResponse);
        let rest = self.size_hint().exact();
        if is_refused && rest.is_none_or(|rest| rest > DISCARD_BYTES as u64) {
            body.activity.set_ending(Ending::LingerNext);
        }
    }

    /// Returns the body with what was sent of it in front; `None` if not all of that was kept.
    pub(super) fn after(mut self, kept: KeptBody) -> Option<Self> {
        if kept.is_lost {
            return None;
        }
        if let Self::Client(body) = &mut self {
            body.source = match std::mem::take(&mut body.source) {
                BodySource::Again(mut again) => {
                    again.0.put_behind(kept);
                    BodySource::Again(again)
                }
                rest @ (BodySource::Client(_) | BodySource::Stream(_) | BodySource::Nothing) => {
                    BodySource::Again(Box::new((kept, rest)))
                }
            };
        }
        Some(self)
    }

    fn incoming(&self) -> Option<&Incoming> {
        match self {
            Self::Empty => None,
            Self::Client(body) => body.source.incoming(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Client(body) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let polled = match &mut body.source {
            BodySource::Client(incoming) => Pin::new(incoming).poll_frame(cx),
            other @ (BodySource::Stream(_) | BodySource::Again(_) | BodySource::Nothing) => {
                return other.poll_frame(cx);
            }
        };
        // The sweep has woken this task.
        if polled.is_pending() && body.activity.body() == BodyState::Overdue {
            body.activity.set_ending(Ending::LingerNext);
            return Poll::Ready(Some(Err(BodyError::Overdue)));
        }
        polled.map_err(BodyError::Broken)
    }

    fn is_end_stream(&self) -> bool {
        let is_again = matches!(self, Self::Client(body) if body.is_again());
        !is_again && self.incoming().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        self.incoming().map_or_else(nothing, Body::size_hint)
    }
}

impl ClientBody {
    /// Returns `true` if parts that were sent before are to come.
    fn is_again(&self) -> bool {
        matches!(&self.source, BodySource::Again(again) if !again.0.parts.is_empty())
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.set_body(BodyState::Unwanted);
        let source = std::mem::take(&mut self.source);
        let Some(incoming) = source.into_incoming().filter(|body| !body.is_end_stream()) else {
            return;
        };
        let rest = incoming.size_hint().exact();
        if rest > Some(DISCARD_BYTES as u64) {
            activity.set_ending(Ending::LingerNext);
        }
        let activity = Arc::clone(activity);
        // Fails only when the worker has ended, and the connection with it.
        let _ = self.body_drain.send(UnreadBody { incoming, activity });
    }
}

// === impl BodySource ===

impl BodySource {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Client(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Broken),
            Self::Stream(paced) => match ready!(paced.poll_frame(cx)) {
                Ok(frame) => Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken))),
                Err(Overdue) => Poll::Ready(Some(Err(BodyError::Overdue))),
            },
            Self::Again(again) => match again.0.parts.pop_front() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
                None => again.1.poll_frame(cx),
            },
            Self::Nothing => Poll::Ready(None),
        }
    }

    fn incoming(&self) -> Option<&Incoming> {
        match self {
            Self::Client(incoming) => Some(incoming),
            Self::Stream(paced) => Some(&paced.incoming),
            Self::Again(again) => again.1.incoming(),
            Self::Nothing => None,
        }
    }

    fn into_incoming(self) -> Option<Incoming> {
        match self {
            Self::Client(incoming) => Some(incoming),
            Self::Stream(paced) => Some(paced.incoming),
            Self::Again(again) => again.1.into_incoming(),
            Self::Nothing => None,
        }
    }
}

// === impl KeptBody ===

impl KeptBody {
    /// Adds what has been sent, up to [`KEEP_BYTES`] in all.
    pub(super) fn add(&mut self, part: &Bytes) {
        self.size += part.len();
        if self.is_lost || self.size > KEEP_BYTES {
            self.lose();
        } else {
            self.parts.push_back(part.clone());
        }
    }

    fn put_behind(&mut self, mut first: Self) {
        first.parts.append(&mut self.parts);
        self.parts = first.parts;
    }

    /// Marks that it cannot be sent again.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
        self.parts.clear();
    }
}

// === impl UnreadBody ===

impl UnreadBody {
    /// Reads the rest and throws it away, within [`DISCARD_BYTES`] and [`DISCARD_TIME`].
    ///
    /// If the connection ends with its response, nothing is read here. That response has been written
    /// now: hyper would drop it if its body were dropped before.
    pub(super) async fn discard(mut self) {
        if self.activity.ending() == Ending::LingerNext {
            return;
        }
        let mut read = 0;
        let all = async {
            // Once its request is answered, hyper reports the end of a body without a length only
            // when the next head arrives.
            while !self.incoming.is_end_stream() && read <= DISCARD_BYTES {
                match self.incoming.frame().await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => return,
                }
            }
        };
        let is_slow = tokio::time::timeout(DISCARD_TIME, all).await.is_err();
        if is_slow || read > DISCARD_BYTES {
            // hyper closes the connection now, unless it has seen the end of the body.
            self.activity.set_ending(Ending::Linger);
        }
        if self.activity.state() == ClientState::Head {
            // The bytes of the body were taken for those of the next head.
            self.activity.enter(ClientState::Idle);
        }
    }
}
