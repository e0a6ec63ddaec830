//! The sidecars of the mirror's folder: it runs on their machine, so their clock is its own.

use std::fs;
use std::path::Path;

use handoff::deployment::status::{Phase, Status, UnixMillis};
use handoff::os::files;
use handoff::release::Digest;

use crate::channel::MemberState;

/// Age of the last sign of life from which a sidecar counts as ended: it gives one every three
/// seconds or so.
const SILENT_MS: u64 = 20_000;

/// Returns the statuses of the live sidecars that publish in the folder `state`.
pub fn live(state: &Path) -> Vec<Status> {
    let entries = fs::read_dir(state.join("sidecars"))
        .into_iter()
        .flatten()
        .flatten();
    let paths = entries.map(|entry| entry.path());
    let statuses = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter_map(|path| serde_json::from_slice::<Status>(&files::read_small(&path).ok()?).ok());
    let now = UnixMillis::now().0;
    let is_live = |status: &Status| {
        status.phase == Phase::Running && now.saturating_sub(status.heartbeat_ms.0) < SILENT_MS
    };
    let mut live: Vec<_> = statuses.filter(is_live).collect();
    live.sort_by(|one, other| one.sidecar.cmp(&other.sidecar));
    live
}

/// Returns the state of a release on these sidecars, once they have read the command with this
/// serial.
pub fn state_of(sidecars: &[Status], digest: Digest, command: Option<u64>) -> MemberState {
    if sidecars.is_empty() {
        return MemberState::Idle;
    }
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
    let is_run = |status: &Status| status.active.as_ref().is_some_and(|it| it.digest == digest);
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
