//! Rapid-fail protection: who ends too often is not started for the rest of the minute.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// How often the process has failed in the current window.
#[derive(Clone, Copy, Debug, Default)]
pub struct RapidFails {
    begun: Option<Instant>,
    count: u32,
}

impl RapidFails {
    /// Counts an end, or a start that failed.
    pub fn record(&mut self, now: Instant) {
        self.roll(now);
        self.begun.get_or_insert(now);
        self.count += 1;
    }

    /// Whether there were more than `limit` in this window.
    pub fn is_exceeded(&mut self, now: Instant, limit: u32) -> bool {
        self.roll(now);
        self.count > limit
    }

    fn roll(&mut self, now: Instant) {
        let is_over = |begun| now.saturating_duration_since(begun) >= WINDOW;
        if self.begun.is_some_and(is_over) {
            *self = Self::default();
        }
    }
}
