//! The log of the failures for which handoff answers in the app's place.

use std::cell::Cell;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::error::ForwardError;

/// Number of failures that a worker logs as warnings within [`LOG_PERIOD`].
const MAX_WARNINGS: u32 = 10;
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// The failures that a worker has logged lately. While everything fails, most are for debugging.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    since: Cell<Option<Instant>>,
    warnings: Cell<u32>,
}

// === impl ErrorLog ===

impl ErrorLog {
    /// Writes the reason of a failure.
    pub(super) fn write(&self, error: &ForwardError, status: StatusCode, id: &HeaderValue) {
        let status = status.as_u16();
        let request_id = id.to_str().unwrap_or_default();
        if self.take_warning(Instant::now()) {
            tracing::warn!(
                event = "error_response",
                status,
                request_id,
                reason = %error,
                "a request got an error response from handoff"
            );
        } else {
            tracing::debug!(
                event = "error_response",
                status,
                request_id,
                reason = %error,
                "a request got an error response from handoff"
            );
        }
    }

    /// Takes one of the warnings of this period, and returns `false` if there is none left.
    fn take_warning(&self, now: Instant) -> bool {
        if self
            .since
            .get()
            .is_none_or(|since| now > since + LOG_PERIOD)
        {
            self.since.set(Some(now));
            self.warnings.set(0);
        }
        self.warnings.set(self.warnings.get().saturating_add(1));
        self.warnings.get() <= MAX_WARNINGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_failures_does_not_fill_the_log() {
        let log = ErrorLog::default();
        let warned = |times| {
            (0..times)
                .filter(|_| log.take_warning(Instant::now()))
                .count()
        };
        assert_eq!(warned(1000), 10);
        tokio::time::advance(LOG_PERIOD * 2).await;
        assert_eq!(warned(3), 3);
    }
}
