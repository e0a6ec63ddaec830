//! The response body on its way to the client; it keeps the upstream in flight until its end.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::access::AccessEntry;
use super::bound::Binding;
use super::connections::Client;
use super::exchange::ResponseReader;
use super::file_body::FileBody;
use super::pool::Pool;
use crate::router::{TunnelMark, Upstream};

/// The body of a response to a client.
pub(super) enum ResponseBody {
    /// An empty body, or one that has been sent.
    Empty,
    /// A text by handoff itself.
    Text(Bytes),
    /// The app's body.
    App(AppBody),
    /// A file of an earlier release.
    File(Box<FileBody>),
}

/// The app's body, and all that has to last until its end.
pub(super) struct AppBody {
    reader: ResponseReader,
    in_flight: InFlight,
    failed: Option<io::Error>,
}

/// The resources that a request holds until it has ended.
#[derive(Debug)]
pub(super) struct InFlight {
    // Never copy the address out and drop this.
    pub(super) upstream: Arc<Upstream>,
    pub(super) pool: Rc<Pool>,
    pub(super) client: Rc<Client>,
    pub(super) binding: Binding,
    pub(super) tunnel: Option<TunnelMark>,
    /// The entry of the access log, written when the request ends.
    pub(super) access: Option<Rc<AccessEntry>>,
}

// === impl ResponseBody ===

impl ResponseBody {
    /// Returns the app's body, which is in flight until its end.
    pub(super) fn app(reader: ResponseReader, in_flight: InFlight) -> Self {
        if reader.is_done() {
            in_flight.finish(reader);
            return Self::Empty;
        }
        Self::App(AppBody {
            reader,
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
                    access.count_bytes(frame.data_ref().map_or(0, Bytes::len));
                }
                let is_done = !matches!(frame, Some(Err(_))) && body.reader.is_done();
                if is_done && let Self::App(body) = std::mem::replace(this, Self::Empty) {
                    body.in_flight.finish(body.reader);
                }
                Poll::Ready(frame)
            }
            Self::File(file) => file.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            // A complete body has become `Empty`; a failed one has not ended.
            Self::App(_) => false,
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::App(body) => match body.reader.remaining() {
                Some(length) => SizeHint::with_exact(length),
                None => SizeHint::default(),
            },
            Self::File(file) => file.size_hint(),
        }
    }
}

// === impl AppBody ===

impl AppBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(self.reader.poll_frame(cx));
        if let Some(Err(error)) = frame {
            // hyper still buffers what came before the failure, and would throw it away at an error.
            // Reporting the error one poll later lets it reach the client. The reset then shows that
            // the body is incomplete, also where only the end of the connection delimits it
            // (HTTP/1.0).
            self.failed = Some(error);
            self.in_flight.client.reset_on_close();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }
}

// === impl InFlight ===

impl InFlight {
    /// Completes the request: its connection to the app may serve another one.
    pub(super) fn finish(self, reader: ResponseReader) {
        self.client.begin_idle();
        if let Some(access) = &self.access {
            access.is_complete.set(true);
        }
        let Some(connection) = reader.into_finished_connection() else {
            return;
        };
        if connection.is_single_use || self.binding == Binding::Shared {
            return self.pool.put_back(connection);
        }
        if self.binding == Binding::Login || !self.pool.is_superseded(self.upstream.generation) {
            let bound = &self.client.bound;
            bound.keep(connection, self.upstream, self.binding);
        }
    }
}
