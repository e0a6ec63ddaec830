//! The app's body, and what a request holds until its end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::access::AccessEntry;
use super::app_reader::AppReader;
use super::bound::Binding;
use super::connections::Client;
use super::pool::Pool;
use crate::router::{TunnelMark, Upstream};

/// The app's body, and all that has to last until its end.
pub(super) struct AppBody<R> {
    reader: R,
    in_flight: InFlight,
    failed: Option<io::Error>,
}

/// A body from the app on its way to the client.
pub(super) trait ForwardedBody {
    /// Returns the next part; `None` at the end, also at one that handoff has chosen.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>>;

    /// Returns `true` once the whole body has been returned.
    fn is_done(&self) -> bool;

    /// Returns the number of bytes to come, if known.
    fn remaining(&self) -> Option<u64>;

    fn in_flight(&self) -> &InFlight;

    /// Completes the request, at the end of the app's body or before it.
    fn end(self: Box<Self>);
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

// === impl AppBody ===

impl<R: AppReader> AppBody<R> {
    pub(super) fn new(reader: R, in_flight: InFlight) -> Self {
        Self {
            reader,
            in_flight,
            failed: None,
        }
    }

    /// Returns `true` if it is a tunnel that is to close.
    pub(super) fn is_closing(&self) -> bool {
        self.reader.handle().is_closing()
    }

    /// Completes the request behind the whole body.
    pub(super) fn finish(self) {
        self.in_flight.finish(self.reader);
    }

    /// Completes the request, at the end of the app's body or before it.
    pub(super) fn end(self) {
        if self.is_done() {
            self.finish();
        } else {
            self.in_flight.complete();
        }
    }
}

impl<R: AppReader> ForwardedBody for AppBody<R> {
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

    fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    fn remaining(&self) -> Option<u64> {
        self.reader.remaining()
    }

    fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    fn end(self: Box<Self>) {
        (*self).end();
    }
}

// === impl InFlight ===

impl InFlight {
    /// Returns what a request to `upstream` holds. It is no tunnel.
    pub(super) fn new(
        upstream: Arc<Upstream>,
        binding: Binding,
        pool: &Rc<Pool>,
        client: &Rc<Client>,
        access: Option<Rc<AccessEntry>>,
    ) -> Self {
        Self {
            upstream,
            pool: Rc::clone(pool),
            client: Rc::clone(client),
            binding,
            tunnel: None,
            access,
        }
    }

    /// Counts a part of the response in the access log.
    pub(super) fn count(&self, frame: &Frame<Bytes>) {
        if let Some(access) = &self.access {
            access.count_bytes(frame.data_ref().map_or(0, Bytes::len));
            if let Some(trailers) = frame.trailers_ref() {
                access.record_grpc_status(trailers);
            }
        }
    }

    fn complete(&self) {
        self.client.begin_idle();
        if let Some(access) = &self.access {
            access.is_complete.set(true);
        }
    }

    /// Completes the request: its connection to the app may serve another one.
    pub(super) fn finish(self, reader: impl AppReader) {
        self.complete();
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
