//! One deploy of a release, and its steps: plain data.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::release::Release;
use crate::units::millis;

/// One deploy of a release. Times are in milliseconds since the deploy was written.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Swap {
    /// Name of the release.
    pub release: String,
    /// Time of the deploy, in seconds from the start of the load.
    pub at_s: f64,
    #[serde(flatten)]
    pub phases: Phases,
    /// Time of the first answer that named the release.
    pub seen_ms: Option<u64>,
    /// Reason for which the release was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    #[serde(skip)]
    pub number: u32,
    #[serde(skip)]
    pub sha256: String,
    /// Time at which the deploy was written, in unix milliseconds.
    #[serde(skip)]
    pub written_ms: u64,
}

/// Ends of the steps of a swap, in milliseconds since the deploy was written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Phases {
    pub detected_ms: Option<u64>,
    /// The private copy is complete.
    pub copied_ms: Option<u64>,
    /// The process is started.
    pub launched_ms: Option<u64>,
    pub ready_ms: Option<u64>,
    pub promoted_ms: Option<u64>,
    /// The previous release has no request left.
    pub drained_ms: Option<u64>,
    /// The previous release has ended.
    pub stopped_ms: Option<u64>,
}

impl Swap {
    pub fn of(release: &Release) -> Self {
        Self {
            release: release.name(),
            at_s: 0.0,
            phases: Phases::default(),
            seen_ms: None,
            refused: None,
            number: release.number,
            sha256: release.sha256.clone(),
            written_ms: 0,
        }
    }

    /// Tells whether the previous release has ended.
    pub fn is_over(&self) -> bool {
        self.phases.stopped_ms.is_some()
    }

    /// Returns the time from detected to the last step, and not before clients saw the release, in
    /// seconds from the start of the load. It has no end while the swap is not over.
    pub fn window_s(&self) -> (f64, Option<f64>) {
        let at = |ms: u64| self.at_s + ms as f64 / 1000.0;
        // Stop-and-start stops first and promotes last; a command may end before clients see the
        // release; of a control run only its stop is known.
        let last = self.phases.promoted_ms.max(self.seen_ms).unwrap_or(0);
        let end = self.phases.stopped_ms.map(|stopped| at(stopped.max(last)));
        (at(self.phases.detected_ms.unwrap_or(0)), end)
    }
}

/// Returns the time by the clock that processes share.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_when_the_old_release_is_gone_and_the_new_one_seen() {
        let window = |promoted_ms, stopped_ms, seen_ms| {
            let mut swap = Swap::of(&Release::numbered(2));
            swap.at_s = 10.0;
            swap.seen_ms = seen_ms;
            swap.phases = Phases {
                detected_ms: Some(500),
                promoted_ms,
                stopped_ms,
                ..Phases::default()
            };
            swap.window_s()
        };
        let ended = |end| (10.5, Some(end));
        assert_eq!(window(Some(600), Some(2000), Some(700)), ended(12.0));
        // A command ends before the swap that it has begun.
        assert_eq!(window(None, Some(600), Some(3000)), ended(13.0));
        assert_eq!(window(Some(600), None, Some(700)), (10.5, None));
    }
}
