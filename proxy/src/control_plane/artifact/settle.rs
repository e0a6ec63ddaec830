//! Detects that an artifact without a digest is complete: it has not changed for a while.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::deployment::Fingerprint;
use crate::deployment::digest::{EntryKind, entries};
use crate::os::files::{self, Writers};

/// Factor of the times where it cannot be seen whether a process still writes.
const UNSEEN: u32 = 4;

/// The times without a change after which an artifact is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlePeriods {
    /// Time for a file.
    pub file: Duration,
    /// Time for a folder, which has pauses between its files.
    pub folder: Duration,
}

/// Observes one artifact at a time until it is complete.
#[derive(Debug)]
pub struct SettleTracker {
    settle: SettlePeriods,
    last: Option<Observation>,
}

#[derive(Debug)]
struct Observation {
    path: PathBuf,
    fingerprint: Fingerprint,
    unchanged_since: Instant,
    period: Duration,
    /// True if a writer would be seen; `None` before that was looked at.
    sees_writers: Option<bool>,
}

/// The observation of an artifact that is not complete yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleProgress {
    /// Path of the artifact.
    pub path: PathBuf,
    /// Time for which it must not change.
    pub period: Duration,
    /// Time of its last change.
    pub unchanged_since: Instant,
    /// True if a process that has it open for writing would be seen.
    pub sees_writers: bool,
}

// === impl SettlePeriods ===

impl SettlePeriods {
    /// Returns the time for an artifact with this fingerprint.
    pub fn of(self, fingerprint: &Fingerprint) -> Duration {
        if fingerprint.is_folder {
            self.folder
        } else {
            self.file
        }
    }
}

// === impl SettleTracker ===

impl SettleTracker {
    /// Creates a tracker that has not seen any artifact.
    pub fn new(settle: SettlePeriods) -> Self {
        Self { settle, last: None }
    }

    /// Returns the time until the next observation; zero when the artifact is complete.
    ///
    /// `age` is the time since its last change by the system's clock. It counts for the first
    /// artifact only: one that was there before this process is not being written. A later one may
    /// be a slow copy with old times. If `can_see_writers` returns false, the time is longer.
    pub fn observe(
        &mut self,
        path: &Path,
        fingerprint: &Fingerprint,
        now: Instant,
        age: Option<Duration>,
        can_see_writers: impl FnOnce() -> bool,
    ) -> Duration {
        let is_same = |last: &Observation| last.path == path && last.fingerprint == *fingerprint;
        if !self.last.as_ref().is_some_and(is_same) {
            let unchanged_for = match self.last {
                Some(_) => Duration::ZERO,
                None => age.unwrap_or_default(),
            };
            self.last = Some(Observation {
                path: path.to_owned(),
                fingerprint: fingerprint.clone(),
                unchanged_since: now.checked_sub(unchanged_for).unwrap_or(now),
                period: self.settle.of(fingerprint),
                sees_writers: None,
            });
        }
        let Some(last) = &mut self.last else {
            return Duration::ZERO;
        };
        let unchanged_for = now - last.unchanged_since;
        if unchanged_for >= last.period && last.sees_writers.is_none() {
            let sees_writers = can_see_writers();
            last.sees_writers = Some(sees_writers);
            if !sees_writers {
                last.period *= UNSEEN;
            }
        }
        last.period.saturating_sub(unchanged_for)
    }

    /// Returns what was observed last.
    pub fn progress(&self) -> Option<SettleProgress> {
        self.last.as_ref().map(|last| SettleProgress {
            path: last.path.clone(),
            period: last.period,
            unchanged_since: last.unchanged_since,
            sees_writers: last.sees_writers != Some(false),
        })
    }
}

/// Returns true if a process that writes to the file, or to a file in the folder, would be seen.
pub fn can_see_writers(path: &Path) -> bool {
    // A file that cannot be opened cannot be read either, which is reported.
    let sees = |path: &Path| files::look_for_writers(path).ok() != Some(Writers::Unknown);
    if !path.is_dir() {
        return sees(path);
    }
    entries(path).is_ok_and(|entries| {
        let mut files = (entries.iter()).filter(|entry| entry.kind == EntryKind::File);
        files.all(|entry| sees(&entry.path))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SETTLE: SettlePeriods = SettlePeriods {
        file: Duration::from_secs(2),
        folder: Duration::from_secs(5),
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn fingerprint(content: &str) -> Fingerprint {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        Fingerprint::of(file.path()).unwrap()
    }

    #[test]
    fn a_file_settles_when_it_has_not_changed_for_a_while() {
        let (path, now) = (Path::new("app"), Instant::now());
        let (half, whole) = (fingerprint("1"), fingerprint("12"));
        let mut settling = SettleTracker::new(SETTLE);
        assert_eq!(
            settling.observe(path, &half, now, None, || true),
            2 * SECOND
        );
        assert_eq!(
            settling.observe(path, &half, now + SECOND, None, || true),
            SECOND
        );
        let later = now + 2 * SECOND;
        assert_eq!(
            settling.observe(path, &whole, later, None, || true),
            2 * SECOND
        );
        let later = now + 4 * SECOND;
        assert_eq!(
            settling.observe(path, &whole, later, None, || true),
            Duration::ZERO
        );
    }

    #[test]
    fn an_old_file_has_settled_at_start_but_not_later() {
        let now = Instant::now();
        let (first, second) = (fingerprint("1"), fingerprint("2"));
        let age = Some(60 * SECOND);
        let mut settling = SettleTracker::new(SETTLE);
        let wait = settling.observe(Path::new("a"), &first, now, age, || true);
        assert_eq!(wait, Duration::ZERO);
        let wait = settling.observe(Path::new("b"), &second, now, age, || true);
        assert_eq!(wait, 2 * SECOND);
    }

    #[test]
    fn a_file_whose_writers_cannot_be_seen_settles_for_longer() {
        let (path, now) = (Path::new("app"), Instant::now());
        let half = fingerprint("1");
        let mut settling = SettleTracker::new(SETTLE);
        settling.observe(path, &half, now, None, || false);
        let at = |seconds| now + seconds * SECOND;
        let wait = settling.observe(path, &half, at(2), None, || false);
        assert_eq!(wait, 6 * SECOND);
        let progress = settling.progress().unwrap();
        assert_eq!(
            (progress.period, progress.sees_writers),
            (8 * SECOND, false)
        );
        // Each change is a new beginning.
        let whole = fingerprint("12");
        settling.observe(path, &whole, at(7), None, || false);
        assert_eq!(
            settling.observe(path, &whole, at(9), None, || true),
            Duration::ZERO
        );
    }
}
