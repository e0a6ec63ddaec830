//! The turns of held requests: an app that has just started does not get all of them at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Number of held requests that are released at once to an app that has just started; the others
/// follow one by one.
pub(super) const BURST: u64 = 64;
/// Interval between the others.
pub(super) const INTERVAL: Duration = Duration::from_millis(1);
/// Number of held requests that are released at once to an app that has served before: all.
const ALL: u64 = 1 << 48;

/// The state of the app to which held requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warmth {
    /// It has not served yet, or not since requests are held.
    JustStarted,
    /// It served when the pause began.
    Warm,
}

/// The turns of the requests that were held up to a moment.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Number of the next turn; from [`ALL`] on each comes an interval later.
    next: AtomicU64,
}

// === impl Turns ===

impl Turns {
    /// Begins to release the requests that are held.
    pub(super) fn begin(&self, warmth: Warmth) {
        let first = match warmth {
            Warmth::JustStarted => ALL - BURST,
            Warmth::Warm => 0,
        };
        self.next.store(first, Ordering::Relaxed);
    }

    /// Waits until it is the turn of one more request.
    pub(super) async fn wait(&self) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(late @ 1..) = turn.checked_sub(ALL) {
            let intervals = u32::try_from(late).unwrap_or(u32::MAX);
            tokio::time::sleep(INTERVAL.saturating_mul(intervals)).await;
        }
    }
}
