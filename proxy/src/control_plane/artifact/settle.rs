//! When an artifact without a digest counts as written: it has not changed for a while.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::deployment::Fingerprint;

/// How long nothing may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// For a file.
    pub file: Duration,
    /// For a folder: more to write, and pauses between its files.
    pub folder: Duration,
}

/// Watches one artifact at a time come to rest.
#[derive(Debug)]
pub struct Settling {
    settle: Settle,
    last: Option<Look>,
}

#[derive(Debug)]
struct Look {
    path: PathBuf,
    fingerprint: Fingerprint,
    unchanged_since: Instant,
}

// === impl Settling ===

impl Settling {
    /// Nothing has been seen yet.
    pub fn new(settle: Settle) -> Self {
        Self { settle, last: None }
    }

    /// How long to wait before the next look; zero when it has settled.
    ///
    /// `age` is how long ago it changed by the system's clock. It is believed for the first
    /// artifact only: one that was there before this process has not been written by halves just
    /// now. A later one may be a slow copy with old times.
    pub fn observe(
        &mut self,
        path: &Path,
        fingerprint: &Fingerprint,
        now: Instant,
        age: Option<Duration>,
    ) -> Duration {
        let settle = match fingerprint.is_folder {
            true => self.settle.folder,
            false => self.settle.file,
        };
        let unchanged_for = match &self.last {
            Some(last) if last.path == path && last.fingerprint == *fingerprint => {
                return settle.saturating_sub(now - last.unchanged_since);
            }
            Some(_) => Duration::ZERO,
            None => age.unwrap_or_default(),
        };
        self.last = Some(Look {
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

    const SETTLE: Settle = Settle {
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
        let mut settling = Settling::new(SETTLE);
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
        let mut settling = Settling::new(SETTLE);
        let wait = settling.observe(Path::new("a"), &first, now, age);
        assert_eq!(wait, Duration::ZERO);
        let wait = settling.observe(Path::new("b"), &second, now, age);
        assert_eq!(wait, 2 * SECOND);
    }
}
