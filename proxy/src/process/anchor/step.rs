//! The steps of an upgrade, at each of which a test kills one of the processes.

use std::fs;

use rustix::process::{Signal, getpid, kill_process};

/// Variable with the path of a file that names a step. Only a program that was built for tests reads
/// it.
const HALT: &str = "HANDOFF_TEST_HALT";

/// A step of an upgrade, in the order in which they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpgradeStep {
    /// Old process: it is about to order the upgrade.
    Ordered,
    /// New process: it has read its configuration, and is about to say so.
    Configured,
    /// Old process: it is about to report that it stands still.
    StoodStill,
    /// Old process: it has reported that.
    StandsStill,
    /// New process: it has what the anchor keeps.
    Welcomed,
    /// New process: it is about to report that it serves.
    Served,
    /// New process: it has reported that.
    Serves,
    /// Old process: it is about to serve its connections to their end.
    Leaves,
}

// === impl UpgradeStep ===

impl UpgradeStep {
    /// Notes that this process has come to the step: if a test waits for that, it halts.
    pub(super) fn reach(self) {
        if cfg!(debug_assertions)
            && let Some(file) = std::env::var_os(HALT)
            && fs::read_to_string(file).is_ok_and(|step| step == format!("{self:?}"))
        {
            // Without it the test fails.
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}
