//! A staged roll-out: the key of `desired.json` that says which sidecars may run the deployed artifact.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A staged roll-out of the artifact that the pointer file names.
///
/// A sidecar that may not run it yet runs what the pointer file named before. With another digest in
/// the pointer file it means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// Digest of the artifact: `sha256:…`.
    pub digest: String,
    /// Content of the pointer file before.
    pub instead: String,
    /// Ids of the sidecars that may run the artifact.
    pub may: BTreeSet<String>,
    /// Maximum number of sidecars that start it at the same time.
    pub at_most: AtMost,
    /// Number of sidecars that run it before all others.
    pub first: usize,
    /// Time for which these run it before the others start, in milliseconds.
    pub bake_ms: u64,
    /// Number of sidecars that may refuse it.
    pub tolerate: usize,
    /// True while no further sidecar is to start it.
    pub stopped: bool,
    /// Keys of newer versions.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A staged roll-out, as a sidecar publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Digest of the artifact: `sha256:…`.
    pub digest: String,
    /// Number of sidecars that may run the artifact.
    pub named: usize,
    /// Maximum number of sidecars that start it at the same time.
    pub at_most: AtMost,
    /// True while no further sidecar is to start it.
    pub is_stopped: bool,
}

/// A number of sidecars, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum AtMost {
    /// A number of sidecars.
    Count(usize),
    /// A percentage of the sidecars, and one at least.
    Percent(usize),
}

// === impl Rollout ===

impl Rollout {
    /// Returns the time for which the first sidecars run the artifact before the others start.
    pub fn bake(&self) -> Duration {
        Duration::from_millis(self.bake_ms)
    }

    /// Returns what a sidecar publishes of it.
    pub fn status(&self) -> RolloutStatus {
        RolloutStatus {
            digest: self.digest.clone(),
            named: self.may.len(),
            at_most: self.at_most,
            is_stopped: self.stopped,
        }
    }
}

// === impl AtMost ===

impl AtMost {
    /// Returns the number of sidecars, of so many.
    pub fn of(self, sidecars: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (sidecars * percent / 100).max(1),
        }
    }
}

impl Default for AtMost {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl FromStr for AtMost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, is_share) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        match (number.trim().parse(), is_share) {
            (Ok(count), false) if count > 0 => Ok(Self::Count(count)),
            (Ok(percent), true) if (1..=100).contains(&percent) => Ok(Self::Percent(percent)),
            _ => Err("expected a number of sidecars, such as 2, or a share of them, such as 25%"),
        }
    }
}

impl TryFrom<String> for AtMost {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AtMost> for String {
    fn from(at_most: AtMost) -> Self {
        at_most.to_string()
    }
}

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_to_one_at_least() {
        let of = |text: &str, sidecars| text.parse::<AtMost>().unwrap().of(sidecars);
        assert_eq!((of("3", 8), of("3", 2)), (3, 3));
        assert_eq!((of("25%", 8), of("25%", 7), of("25%", 3)), (2, 1, 1));
        for text in ["0", "0%", "101%", "-1", "", "%", "1.5", "two"] {
            assert!(text.parse::<AtMost>().is_err(), "{text}");
        }
    }
}
