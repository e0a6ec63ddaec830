//! The reason why a sidecar has not launched what it is to launch.

use std::time::Duration;

use crate::deployment::status::{Settling, Status};

/// Reason of a sidecar that a staged roll-out has not reached.
const AWAITS_TURN: &str = "the roll-out has not reached it";
/// Maximum time between two looks for changes that nobody notices.
const OFTEN: Duration = Duration::from_secs(10);

/// Returns the reason, if the sidecar has one.
pub(super) fn reason_to_wait(status: &Status) -> Option<String> {
    if status.awaits_turn {
        return Some(AWAITS_TURN.to_owned());
    }
    let problem = status.artifact_problem.clone();
    let settling = || status.settling.as_ref().map(wait_of);
    let seldom = || status.source.poll_ms.and_then(seldom_look);
    problem.or_else(settling).or_else(seldom)
}

/// Returns the reason why an artifact that may still change is not accepted.
fn wait_of(settling: &Settling) -> String {
    let period = humantime::format_duration(Duration::from_millis(settling.period_ms));
    format!("it settles, until it has not changed for {period}")
}

/// Returns the reason why a sidecar that looks for changes this seldom has not noticed one.
fn seldom_look(poll_ms: u64) -> Option<String> {
    let poll = Duration::from_millis(poll_ms);
    (poll > OFTEN).then(|| {
        let poll = humantime::format_duration(poll);
        format!("unless the system reports changes to it, it looks for them every {poll} (--poll)")
    })
}
