//! The state of a release on the sidecars of the mirror's folder.

use handoff::deployment::status::Status;
use handoff::release::Digest;

use crate::channel::MemberState;

/// Returns the state of a release on these sidecars, of which there is one at least, once they have read the command with this
/// serial.
pub fn state_of(sidecars: &[&Status], digest: Digest, command: Option<u64>) -> MemberState {
    if sidecars
        .iter()
        .any(|status| status.desired_serial < command)
    {
        return MemberState::Going(None);
    }
    let digest = digest.to_string();
    if let Some(reason) = sidecars.iter().find_map(|status| refusal(status, &digest)) {
        return MemberState::Refused(reason);
    }
    let is_run = |status: &&Status| status.active.as_ref().is_some_and(|it| it.digest == digest);
    if sidecars.iter().all(is_run) {
        return MemberState::Runs;
    }
    let failures = sidecars
        .iter()
        .filter_map(|status| status.last_failure.as_ref());
    let mut failures = failures.filter(|failure| failure.digest == digest);
    MemberState::Going(failures.next().map(|failure| failure.reason.clone()))
}

fn refusal(status: &Status, digest: &str) -> Option<String> {
    if status.artifact_refused.as_deref() == Some(digest) {
        return Some(status.artifact_problem.clone().unwrap_or_default());
    }
    let refusal = status
        .refused
        .iter()
        .find(|refusal| refusal.digest == digest)?;
    Some(refusal.reason.clone())
}
