//! An upgrade of handoff, as a command asks for it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::path_serde::exact;

/// An upgrade of handoff: another program goes on in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeCommand {
    /// Program of the version to go on with: an absolute path.
    #[serde(with = "exact")]
    pub program: PathBuf,
    /// Maximum time to wait for the end of a deploy, in milliseconds.
    pub max_ms: u64,
    /// Number of the command; it grows with each one.
    pub serial: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

// === impl UpgradeCommand ===

impl UpgradeCommand {
    /// Returns a command without a number.
    pub fn new(program: PathBuf, max: Duration) -> Self {
        Self {
            program,
            max_ms: u64::try_from(max.as_millis()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// Returns the same command with a number.
    pub(super) fn numbered(&self, serial: u64) -> Self {
        Self {
            serial,
            ..self.clone()
        }
    }

    /// Returns true if it is newer than the one `before`.
    pub(super) fn is_after(&self, before: &Option<Self>) -> bool {
        self.serial > before.as_ref().map_or(0, |before| before.serial)
    }
}
