//! The process behind an anchor, as the status shows it.

use serde::{Deserialize, Serialize};

use super::unix_millis::UnixMillis;

/// The process that does the work of a sidecar with an anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchoredStatus {
    /// Its process id.
    pub pid: u32,
    /// Number of such processes that ended without being asked to.
    pub crashes: u32,
    /// End of the last one of these.
    pub last_crash: Option<String>,
    /// Number of such processes that were replaced by `handoff upgrade`.
    #[serde(default)]
    pub upgrades: u32,
    /// The last time that this was done.
    #[serde(default)]
    pub last_upgrade: Option<UpgradeStatus>,
    /// The last times that this was done, the oldest first.
    #[serde(default)]
    pub upgrade_history: Vec<UpgradeStatus>,
}

/// An upgrade of handoff that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// Version before.
    pub from: String,
    /// Version since.
    #[serde(default)]
    pub to: String,
    /// Time at which the new process was started.
    pub at_ms: UnixMillis,
    /// Time from then until it served, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
    /// Number of requests and tunnels that were in flight when the process before stood still: it has
    /// served them to their end.
    #[serde(default)]
    pub in_flight: usize,
    /// Number of the command in `desired.json`.
    pub serial: u64,
}
