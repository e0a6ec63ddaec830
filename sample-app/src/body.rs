//! Bodies that are made while they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sample_app::answers;
use tokio::time::{Sleep, sleep};

static CHUNK: [u8; 64 * 1024] = [b'.'; 64 * 1024];

/// A body of filler bytes, with a length known from the start.
#[derive(Debug)]
pub(crate) struct Filler {
    left: u64,
}

/// Server-sent events: the first at once, then one each period, then the end.
#[derive(Debug)]
pub(crate) struct Events {
    version: &'static str,
    sent: u64,
    total: u64,
    every: Duration,
    pause: Pin<Box<Sleep>>,
}

impl Filler {
    pub(crate) fn new(length: u64) -> Self {
        Self { left: length }
    }
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = usize::try_from(self.left).map_or(CHUNK.len(), |left| left.min(CHUNK.len()));
        self.left -= chunk as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK[..chunk])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Events {
    /// Goes on behind event number `sent`.
    pub(crate) fn new(version: &'static str, sent: u64, total: u64, every: Duration) -> Self {
        Self {
            version,
            sent,
            total,
            every,
            pause: Box::pin(sleep(Duration::ZERO)),
        }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == self.total {
            return Poll::Ready(None);
        }
        ready!(self.pause.as_mut().poll(cx));
        self.sent += 1;
        let every = self.every;
        self.pause.set(sleep(every));
        let event = answers::event(self.sent, self.total, self.version);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.total
    }
}
