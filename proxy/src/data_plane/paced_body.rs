//! The body of a request on a stream of HTTP/2, whose client may be too slow with it.
//!
//! The sweep judges connections, and one of HTTP/2 has many bodies. So each judges itself, by the same
//! limits, and only while it is awaited.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::client_streams::OpenStream;
use super::pace::GRACE;
use super::settings::ClientLimits;

/// The body of a request on a stream of HTTP/2.
#[derive(Debug)]
pub(super) struct PacedBody {
    pub(super) incoming: Incoming,
    stream: Rc<OpenStream>,
    pace: StreamPace,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The pace of one body.
#[derive(Debug)]
struct StreamPace {
    limits: ClientLimits,
    /// Time that the client is ahead of the minimum rate.
    credit: Duration,
    awaited_since: Option<Instant>,
}

// === impl PacedBody ===

impl PacedBody {
    pub(super) fn new(incoming: Incoming, stream: Rc<OpenStream>, limits: ClientLimits) -> Self {
        Self {
            incoming,
            stream,
            pace: StreamPace::new(limits),
            timer: None,
        }
    }

    /// Returns the next part of the body.
    ///
    /// # Errors
    /// Returns [`Overdue`] if its client is too slow.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<hyper::Result<Frame<Bytes>>>, Overdue>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            let length = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => 0,
            };
            self.pace.record(length, Instant::now());
            if length > 0 {
                self.stream.count_progress();
            }
            return Poll::Ready(Ok(frame));
        }
        let time = self.pace.await_more(Instant::now());
        let timer = match (&mut self.timer, time) {
            (Some(timer), None) => timer,
            (Some(timer), Some(time)) => {
                timer.as_mut().reset(Instant::now() + time);
                timer
            }
            (timer @ None, time) => timer.insert(Box::pin(sleep(time.unwrap_or_default()))),
        };
        timer.as_mut().poll(cx).map(|()| Err(Overdue))
    }
}

/// A client that is too slow.
#[derive(Debug)]
pub(super) struct Overdue;

// === impl StreamPace ===

impl StreamPace {
    fn new(limits: ClientLimits) -> Self {
        Self {
            limits,
            credit: GRACE,
            awaited_since: None,
        }
    }

    /// Marks that the client is awaited, and returns the time that it has, if it was not before.
    fn await_more(&mut self, now: Instant) -> Option<Duration> {
        if self.awaited_since.is_some() {
            return None;
        }
        self.awaited_since = Some(now);
        Some(if self.limits.min_rate == 0 {
            self.limits.timeout
        } else {
            self.limits.timeout.min(self.credit)
        })
    }

    /// Records bytes that have arrived.
    fn record(&mut self, length: usize, now: Instant) {
        if let Some(since) = self.awaited_since.take() {
            self.credit = self.credit.saturating_sub(now.duration_since(since));
        }
        if let Some(millis) = (length as u64 * 1000).checked_div(self.limits.min_rate) {
            let credit = self.credit + Duration::from_millis(millis);
            self.credit = credit.min(self.limits.timeout.max(GRACE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_plane::pace::tests::LIMITS;

    /// Returns the time until a client is too slow that sends `length` bytes every ten seconds.
    fn time_until_too_slow(limits: ClientLimits, length: usize) -> Option<Duration> {
        let every = Duration::from_secs(10);
        let start = Instant::now();
        let (mut pace, mut now) = (StreamPace::new(limits), start);
        for _ in 0..1000 {
            let time = pace.await_more(now)?;
            if time < every {
                return Some(now - start + time);
            }
            now += every;
            pace.record(length, now);
        }
        None
    }

    #[test]
    fn the_minimum_rate_is_enough_for_ever_and_less_is_not_after_the_grace_period() {
        assert_eq!(time_until_too_slow(LIMITS, 2_400), None);
        let time = time_until_too_slow(LIMITS, 10).expect("it is too slow");
        assert!(time >= GRACE && time < GRACE * 2, "{time:?}");
        let any = ClientLimits {
            min_rate: 0,
            ..LIMITS
        };
        assert_eq!(time_until_too_slow(any, 1), None);
    }

    #[test]
    fn a_client_that_was_fast_may_stop_for_the_client_timeout() {
        let now = Instant::now();
        let mut pace = StreamPace::new(LIMITS);
        assert_eq!(pace.await_more(now), Some(GRACE));
        pace.record(1 << 20, now);
        assert_eq!(pace.await_more(now), Some(LIMITS.timeout));
        assert_eq!(pace.await_more(now), None);
    }
}
