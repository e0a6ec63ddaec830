//! One process, distinct from all others that had or will have its id.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Environment variable of each instance, set to `<sidecar>/<generation>` and inherited by all that
/// it starts. Where the system shows the variables of a process, it finds those that started and
/// lost their parent between two polls.
pub(crate) const MARK: &str = "HANDOFF_SIDECAR";

/// A process, told apart from others with its id by its start time and its program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ProcessIdentity {
    pub(super) pid: u32,
    /// Start time in the unit of the system.
    pub(super) started: u64,
    pub(super) executable: PathBuf,
}
