//! Rapid-fail protection: who ends too often is not started for the rest of the minute.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// Number of failures of the process in the current window.
#[derive(Clone, Copy, Debug, Default)]
pub struct RapidFails {
    begun: Option<Instant>,
    count: u32,
}

impl RapidFails {
    /// Counts an end, or a start that failed.
    pub fn record(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self::default();
        }
        self.begun.get_or_insert(now);
        self.count += 1;
    }

    /// Returns whether there were more than `limit` in this window.
    pub fn is_exceeded(&self, now: Instant, limit: u32) -> bool {
        self.count > limit && !self.is_over(now)
    }

    fn is_over(&self, now: Instant) -> bool {
        let is_past = |begun| now.saturating_duration_since(begun) >= WINDOW;
        self.begun.is_some_and(is_past)
    }
}
