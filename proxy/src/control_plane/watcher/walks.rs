//! The times at which the artifact's folder is walked through: that looks at every file in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// Pause after a walk, in multiples of its time: the walks take a twentieth of a processor at most,
/// and of the share that the folder is on.
const PAUSE: u32 = 20;
/// The same while it delays nobody for long.
const LONG_PAUSE: u32 = 100;
const SHORT_DELAY: Duration = Duration::from_secs(10);
/// Pause where every change is reported.
const REPORTED_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Number of walks after a change. Files that appear in a new folder before it is watched are not
/// reported.
const WALKS_PER_CHANGE: u8 = 2;

/// The reason for a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkReason {
    /// The artifact is not accepted yet, or its change was reported.
    Changed,
    /// It is the accepted one, whose changes are not all reported.
    Unreported,
    /// It is the accepted one, whose changes are all reported.
    Reported,
}

/// The walks through one artifact.
#[derive(Debug, Default)]
pub(super) struct WalkSchedule {
    path: PathBuf,
    /// End of the last walk, and its time.
    last: Option<(Instant, Duration)>,
    owed: u8,
    /// Number of folders in the artifact, itself included; zero for a file.
    folders: usize,
}

// === impl WalkSchedule ===

impl WalkSchedule {
    /// Begins anew for another artifact.
    pub(super) fn begin(&mut self, path: &Path) {
        if self.path != path {
            *self = Self {
                path: path.to_owned(),
                ..Self::default()
            };
        }
    }

    /// Records that something in the artifact has changed.
    pub(super) fn record_change(&mut self) {
        self.owed = WALKS_PER_CHANGE;
    }

    /// Returns true if a reported change has not been looked at twice.
    pub(super) fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// Returns the number of folders in the artifact, as far as it is known; zero for a file.
    pub(super) fn folders_in(&self, path: &Path) -> usize {
        if self.path == path { self.folders } else { 0 }
    }

    /// Records a walk that began then, with the number of folders that it found.
    pub(super) fn record_walk(&mut self, begun: Instant, now: Instant, folders: Option<usize>) {
        self.folders = folders.unwrap_or(self.folders);
        self.last = Some((now, now - begun));
        self.owed = self.owed.saturating_sub(1);
    }

    /// Returns the time until the next walk; zero if it is due, as it always is for a file. `poll` is
    /// the interval of looks.
    pub(super) fn wait(&self, reason: WalkReason, poll: Duration, now: Instant) -> Duration {
        let Some((ended, took)) = self.last.filter(|_| self.folders > 0) else {
            return Duration::ZERO;
        };
        let pause = took * PAUSE;
        let pause = match reason {
            WalkReason::Changed => pause.min(poll.max(took)),
            WalkReason::Unreported => {
                let longer = (took * LONG_PAUSE).min(SHORT_DELAY);
                pause.max(longer).max(poll)
            }
            WalkReason::Reported => pause.max(REPORTED_PAUSE),
        };
        (ended + pause).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const POLL: Duration = Duration::from_secs(2);

    fn wait_after(took: Duration, reason: WalkReason) -> Duration {
        let begun = Instant::now();
        let ended = begun + took;
        let mut walks = WalkSchedule::default();
        walks.begin(Path::new("site"));
        assert!(walks.wait(reason, POLL, begun).is_zero(), "the first");
        walks.record_walk(begun, ended, Some(1));
        walks.begin(Path::new("site"));
        walks.wait(reason, POLL, ended)
    }

    #[test]
    fn the_next_walk_comes_no_sooner_than_twenty_times_what_the_last_one_took() {
        for (took, pause) in [
            (MS, POLL),
            (50 * MS, 5_000 * MS),
            (200 * MS, 10_000 * MS),
            (2_000 * MS, 40_000 * MS),
        ] {
            assert_eq!(wait_after(took, WalkReason::Unreported), pause, "{took:?}");
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(wait_after(50 * MS, WalkReason::Reported), hour);
        assert_eq!(wait_after(hour, WalkReason::Reported), 20 * hour);
    }

    #[test]
    fn a_change_is_looked_at_sooner_and_not_all_the_time() {
        for (took, pause) in [
            (MS, 20 * MS),
            (50 * MS, 1_000 * MS),
            (200 * MS, POLL),
            (5_000 * MS, 5_000 * MS),
        ] {
            assert_eq!(wait_after(took, WalkReason::Changed), pause, "{took:?}");
        }
    }

    #[test]
    fn a_change_is_looked_at_twice_and_another_artifact_at_once() {
        let now = Instant::now();
        let mut walks = WalkSchedule::default();
        walks.begin(Path::new("site"));
        walks.record_change();
        walks.record_walk(now, now + MS, Some(1));
        assert!(walks.is_owed());
        walks.record_walk(now, now + MS, Some(1));
        assert!(!walks.is_owed());
        walks.begin(Path::new("other"));
        let wait = walks.wait(WalkReason::Reported, POLL, now);
        assert!(wait.is_zero());
    }
}
