//! Bodies: the client's on its way to the app, and the answer that keeps the upstream in flight.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Connection, Pool};
use super::stream::Stream;
use crate::router::Upstream;

/// A client's request body.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// None: the request may be sent twice.
    Empty,
    /// Streams through.
    Client(Incoming),
}

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
    incoming: Incoming,
    in_flight: InFlight,
    client: Stream,
    failed: Option<hyper::Error>,
}

/// A request that has not ended: drops when it has.
pub(super) struct InFlight {
    pub(super) connection: Option<Connection>,
    pub(super) pool: Rc<Pool>,
    // Never copy the address out and drop this.
    pub(super) upstream: Arc<Upstream>,
}

// === impl RequestBody ===

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        match incoming.is_end_stream() {
            true => Self::Empty,
            false => Self::Client(incoming),
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
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(incoming) => incoming.size_hint(),
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    pub(super) fn text(text: Bytes) -> Self {
        Self::Text(text)
    }

    /// The app's body to this client, in flight until its end.
    pub(super) fn app(incoming: Incoming, in_flight: InFlight, client: Stream) -> Self {
        if incoming.is_end_stream() {
            in_flight.completed();
            return Self::Empty;
        }
        Self::App(AppBody {
            incoming,
            in_flight,
            client,
            failed: None,
        })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
                let ended = match &frame {
                    None => true,
                    Some(Ok(_)) => body.incoming.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if ended && let Self::App(body) = std::mem::replace(this, Self::Empty) {
                    body.in_flight.completed();
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            Self::App(body) => body.failed.is_none() && body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::App(body) => body.incoming.size_hint(),
        }
    }
}

// === impl AppBody ===

impl AppBody {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if let Some(Err(error)) = frame {
            // What came before the failure is still in hyper's buffer; at an error it would be
            // thrown away. One more turn, and the client gets as much as there was. Then it has
            // to see that this was not all, also where only the end of the connection would say
            // so (HTTP/1.0).
            self.failed = Some(error);
            self.client.reset_on_close();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }
}

// === impl InFlight ===

impl InFlight {
    /// The answer is complete: its connection can serve another request.
    pub(super) fn completed(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put_back(connection);
        }
    }
}
