//! Bodies: the client's on its way to the app, and the answer that keeps the upstream in flight.

use std::io;
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

use super::access::Access;
use super::activity::{Activity, Doing};
use super::exchange::Receiving;
use super::forward::Client;
use super::pool::Pool;
use crate::router::{TunnelMark, Upstream};

/// A client's request body.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// None: the request may be sent twice.
    Empty,
    /// Streams through.
    Client(ClientBody),
}

/// A body that comes from a client.
#[derive(Debug)]
pub(super) struct ClientBody {
    incoming: Option<Incoming>,
    activity: Arc<Activity>,
    leftovers: Leftovers,
}

/// Where bodies go that nobody wants any more: something still has to read them for a while, or the
/// close would reset the connection and the client might never see its answer (hyperium/hyper#2384).
pub(super) type Leftovers = mpsc::UnboundedSender<Leftover>;

/// The rest of a body whose request has been answered.
#[derive(Debug)]
pub(super) struct Leftover {
    incoming: Incoming,
    activity: Arc<Activity>,
}

/// How much of such a body is read, and for how long.
const LEFTOVER_BYTES: usize = 256 * 1024;
const LEFTOVER_TIME: Duration = Duration::from_secs(2);

/// What goes to the client.
pub(super) enum ResponseBody {
    /// Nothing, or nothing more.
    Empty,
    /// Our own words.
    Text(Bytes),
    /// The app's answer.
    App(AppBody),
}

/// The app's answer, and what has to last as long as it.
pub(super) struct AppBody {
    receiving: Receiving,
    in_flight: InFlight,
    failed: Option<io::Error>,
}

/// What a request holds until it has ended.
#[derive(Debug)]
pub(super) struct InFlight {
    // Never copy the address out and drop this.
    pub(super) upstream: Arc<Upstream>,
    pub(super) pool: Rc<Pool>,
    pub(super) client: Rc<Client>,
    pub(super) tunnel: Option<TunnelMark>,
    /// To be recorded when it ends, if anybody wants to know.
    pub(super) access: Option<Rc<Access>>,
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn new(incoming: Incoming, client: &Client, leftovers: &Leftovers) -> Self {
        match incoming.is_end_stream() {
            true => Self::Empty,
            false => Self::Client(ClientBody {
                incoming: Some(incoming),
                activity: Arc::clone(&client.activity),
                leftovers: leftovers.clone(),
            }),
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

impl RequestBody {
    fn incoming(&self) -> Option<&Incoming> {
        match self {
            Self::Empty => None,
            Self::Client(body) => body.incoming.as_ref(),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|body| !body.is_end_stream()) {
            let activity = Arc::clone(&self.activity);
            // The worker is gone, and the connection with it.
            let _ = self.leftovers.send(Leftover { incoming, activity });
        }
    }
}

// === impl Leftover ===

impl Leftover {
    /// Reads it, within bounds.
    pub(super) async fn read(mut self) {
        let mut read = 0;
        let all = async {
            // Once its request is answered, hyper says that a body without a length has ended only
            // when the next head comes.
            while !self.incoming.is_end_stream()
                && let Some(Ok(frame)) = self.incoming.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > LEFTOVER_BYTES {
                    break;
                }
            }
        };
        // Whoever sends for longer than that does not listen.
        let _ = tokio::time::timeout(LEFTOVER_TIME, all).await;
        if self.activity.doing() == Doing::Head {
            // What came looked like the next head.
            self.activity.begin(Doing::Idle);
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// The app's body, in flight until its end.
    pub(super) fn app(receiving: Receiving, in_flight: InFlight) -> Self {
        if receiving.is_done() {
            in_flight.completed(receiving);
            return Self::Empty;
        }
        Self::App(AppBody {
            receiving,
            in_flight,
            failed: None,
        })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) => {
                let text = std::mem::take(text);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Self::App(body) => {
                let frame = ready!(body.poll_frame(cx));
                if let Some(access) = &body.in_flight.access
                    && let Some(Ok(frame)) = &frame
                {
                    access.sent(frame.data_ref().map_or(0, Bytes::len));
                }
                let is_done = !matches!(frame, Some(Err(_))) && body.receiving.is_done();
                if is_done && let Self::App(body) = std::mem::replace(this, Self::Empty) {
                    body.in_flight.completed(body.receiving);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            // Done, it is empty; failed, it has not ended.
            Self::App(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::App(body) => match body.receiving.remaining() {
                Some(length) => SizeHint::with_exact(length),
                None => SizeHint::default(),
            },
        }
    }
}

// === impl AppBody ===

impl AppBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(self.receiving.poll_frame(cx));
        if let Some(Err(error)) = frame {
            // What came before the failure is still in hyper's buffer; at an error it would be
            // thrown away. One more turn, and the client gets as much as there was. Then it has
            // to see that this was not all, also where only the end of the connection would say
            // so (HTTP/1.0).
            self.failed = Some(error);
            self.in_flight.client.sees_a_failure();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }
}

// === impl InFlight ===

impl InFlight {
    /// The answer is complete: its connection can serve another request.
    pub(super) fn completed(self, receiving: Receiving) {
        self.client.answered();
        if let Some(access) = &self.access {
            access.is_complete.set(true);
        }
        if let Some(connection) = receiving.reusable() {
            self.pool.put_back(connection);
        }
    }
}
