//! `requestTimeout` limits how long no byte moves, not how long a request takes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::clock::Clock;

/// Moment at which a byte of one request or its answer has moved last.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    clock: Clock,
    last: Arc<Mutex<Instant>>,
}

/// A body whose bytes are activity.
#[derive(Debug)]
pub(super) struct Watched {
    body: Incoming,
    activity: Activity,
}

// === impl Activity ===

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        let last = Arc::new(Mutex::new(clock.now()));
        Self { clock, last }
    }

    pub(super) fn watch(&self, body: Incoming) -> Watched {
        Watched {
            body,
            activity: self.clone(),
        }
    }

    pub(super) fn moved(&self) {
        *self.last.lock() = self.clock.now();
    }

    pub(super) async fn wait_until_idle(&self, limit: Duration) {
        loop {
            let deadline = self.last() + limit;
            self.clock.sleep_until(deadline).await;
            if self.last() + limit <= self.clock.now() {
                return;
            }
        }
    }

    fn last(&self) -> Instant {
        *self.last.lock()
    }
}

// === impl Watched ===

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.activity.moved();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
