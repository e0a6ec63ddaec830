//! The progress of one sidecar with `handoff upgrade`.

use super::step::Step;
use crate::deployment::status::Status;

/// Returns the progress with the upgrade of this number.
pub(in crate::commands) fn step_of_upgrade(status: &Status, serial: u64) -> Step {
    let upgrade = status.anchored.as_ref();
    let upgrade = upgrade.and_then(|anchored| anchored.last_upgrade.as_ref());
    if upgrade.is_some_and(|upgrade| upgrade.serial >= serial) {
        Step::Upgraded
    } else {
        let problem = status.busy_with();
        Step::Waiting { problem }
    }
}
