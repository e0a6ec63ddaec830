//! The process behind an anchor, as the status shows it.

use serde::{Deserialize, Serialize};

/// The process that does the work of a sidecar with an anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchoredStatus {
    /// Its process id.
    pub pid: u32,
    /// Number of such processes that ended without being asked to.
    pub crashes: u32,
    /// End of the last one of these.
    pub last_crash: Option<String>,
}
