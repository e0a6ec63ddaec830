//! The status that handoff publishes in `<state>/sidecars/<id>.json`, in its own types.

use std::fs;
use std::ops::Deref;
use std::path::Path;

pub use handoff::deployment::status::{Failure, Handoff, LaunchCause, Outcome, Phase, Refusal};
use handoff::release::ReleaseId;
use serde::Deserialize;

/// A sidecar at one moment.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Status(handoff::deployment::status::Status);

impl Deref for Status {
    type Target = handoff::deployment::status::Status;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Status {
    /// Returns the last status of the sidecar with this process id, if it has published one.
    pub(crate) fn read(state: &Path, pid: u32) -> Option<Self> {
        let mut all = Self::all(state).into_iter();
        all.find(|status| status.pid == pid)
    }

    /// Returns the last status of each sidecar that shares a state folder.
    pub(crate) fn all(state: &Path) -> Vec<Self> {
        let files = fs::read_dir(state.join("sidecars"));
        let is_status = |path: &Path| path.extension().is_some_and(|suffix| suffix == "json");
        files
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_status(path))
            .filter_map(|path| fs::read(path).ok())
            .map(|json| {
                // It is replaced in one step: half a status is a fault.
                let status = serde_json::from_slice(&json).unwrap_or_else(|error| {
                    let json = String::from_utf8_lossy(&json);
                    panic!("the status cannot be read: {error}: {json}")
                });
                Self(status)
            })
            .collect()
    }

    /// Returns whether this release receives the new requests.
    pub fn is_active(&self, release: &str) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| is_of(&active.release, release))
    }

    /// Returns whether this release is starting.
    pub fn is_candidate(&self, release: &str) -> bool {
        let candidate = self.candidate.as_ref();
        candidate.is_some_and(|candidate| is_of(&candidate.release, release))
    }

    /// Returns whether this release is draining.
    pub fn is_draining(&self, release: &str) -> bool {
        let mut draining = self.draining.iter();
        draining.any(|draining| is_of(&draining.release, release))
    }

    /// Returns whether this release is on standby.
    pub fn is_on_standby(&self, release: &str) -> bool {
        let standby = self.standby.as_ref();
        standby.is_some_and(|standby| is_of(&standby.release, release))
    }

    /// Returns the refusal of a release, if it is not tried again.
    pub fn refusal(&self, release: &str) -> Option<&Refusal> {
        let mut refused = self.refused.iter();
        refused.find(|refusal| is_of(&refusal.release, release))
    }

    /// Returns true if a release is not tried again, or not for some time, since it crashes.
    pub fn has_given_up(&self, release: &str) -> bool {
        let rests = self.gave_way.as_ref();
        self.refusal(release).is_some() || rests.is_some_and(|rests| is_of(&rests.from, release))
    }

    /// Returns the active instance's launch number.
    pub fn generation(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.generation.0)
    }

    /// Returns the latest launch of a release.
    pub fn handoff(&self, release: &str) -> Option<&Handoff> {
        let mut latest_first = self.handoffs.iter().rev();
        latest_first.find(|handoff| is_of(&handoff.release, release))
    }

    /// Returns whether the latest launch of a release came to this.
    pub fn has_outcome(&self, release: &str, outcome: Outcome) -> bool {
        let handoff = self.handoff(release);
        handoff.is_some_and(|handoff| handoff.outcome == outcome)
    }

    /// Returns whether one active instance is all that runs.
    pub fn is_at_rest(&self) -> bool {
        let others = self.draining.len() + self.stopping.len();
        self.active.is_some() && self.candidate.is_none() && others == 0
    }

    /// Returns the number of requests in flight to the active instance.
    pub fn in_flight(&self) -> usize {
        let active = self.active.as_ref();
        active.map_or(0, |active| active.in_flight)
    }
}

/// Returns whether a release is of this artifact: its name is the artifact's and the first digits
/// of the digest.
fn is_of(id: &ReleaseId, artifact: &str) -> bool {
    let name = id.as_str().strip_prefix(artifact);
    let digits = name.and_then(|rest| rest.strip_prefix('-'));
    digits.is_some_and(|digits| !digits.contains('-'))
}
