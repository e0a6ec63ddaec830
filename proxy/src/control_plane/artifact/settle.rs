//! Detects that an artifact without a digest is complete: it has not changed for a while.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::deployment::Fingerprint;

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
    /// be a slow copy with old times.
    pub fn observe(
        &mut self,
        path: &Path,
        fingerprint: &Fingerprint,
        now: Instant,
        age: Option<Duration>,
    ) -> Duration {
        let settle = self.settle.of(fingerprint);
        let unchanged_for = match &self.last {
            Some(last) if last.path == path && last.fingerprint == *fingerprint => {
                return settle.saturating_sub(now - last.unchanged_since);
            }
            Some(_) => Duration::ZERO,
            None => age.unwrap_or_default(),
        };
        self.last = Some(Observation {
            path: path.to_owned(),
            fingerprint: fingerprint.clone(),
            unchanged_since: now.checked_sub(unchanged_for).unwrap_or(now),
        });
        settle.saturating_sub(unchanged_for)
    }
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
        assert_eq!(settling.observe(path, &half, now, None), 2 * SECOND);
        assert_eq!(settling.observe(path, &half, now + SECOND, None), SECOND);
        let later = now + 2 * SECOND;
        assert_eq!(settling.observe(path, &whole, later, None), 2 * SECOND);
        let later = now + 4 * SECOND;
        assert_eq!(settling.observe(path, &whole, later, None), Duration::ZERO);
    }

    #[test]
    fn an_old_file_has_settled_at_start_but_not_later() {
        let now = Instant::now();
        let (first, second) = (fingerprint("1"), fingerprint("2"));
        let age = Some(60 * SECOND);
        let mut settling = SettleTracker::new(SETTLE);
        let wait = settling.observe(Path::new("a"), &first, now, age);
        assert_eq!(wait, Duration::ZERO);
        let wait = settling.observe(Path::new("b"), &second, now, age);
        assert_eq!(wait, 2 * SECOND);
    }
}
