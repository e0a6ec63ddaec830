//! The requests that an app left without a response a moment ago, as one does that crashes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time for which such a request counts.
const JUST_NOW: Duration = Duration::from_secs(1);

/// The time of the last request without a response, and the number of those just before it.
#[derive(Debug, Default)]
pub struct Unanswered(Mutex<Option<(Instant, usize)>>);

// === impl Unanswered ===

impl Unanswered {
    /// Counts a request whose connection the app closed without a whole head of a response.
    pub fn count(&self) {
        let before = self.recent();
        *self.0.lock() = Some((Instant::now(), before + 1));
    }

    /// Returns the number of such requests just now.
    pub fn recent(&self) -> usize {
        let last = *self.0.lock();
        let recent = last.filter(|(at, _)| at.elapsed() < JUST_NOW);
        recent.map_or(0, |(_, count)| count)
    }
}
