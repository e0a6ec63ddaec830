//! What handoff publishes in `<state>/sidecars/<id>.json`. Keys that are not here are ignored.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

/// A sidecar at one moment. Times are unix milliseconds.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// The public address.
    pub listen: SocketAddr,
    /// Where it can be looked at.
    pub admin: Option<SocketAddr>,
    /// `running` or `stopping`.
    pub phase: String,
    /// Gets all new requests.
    pub active: Option<Instance>,
    /// Starts, and is checked.
    pub candidate: Option<Instance>,
    /// Superseded and idle, kept to go back to.
    pub standby: Option<Instance>,
    /// Superseded, with requests in flight.
    pub draining: Vec<Instance>,
    /// Asked to stop.
    pub stopping: Vec<Instance>,
    /// Requests that wait for an active instance.
    pub held: usize,
    /// Why no artifact can be accepted at the moment.
    pub artifact_problem: Option<String>,
    /// Why the last instance that failed did.
    pub last_failure: Option<Failure>,
    /// Oldest first.
    pub handoffs: Vec<Handoff>,
    /// The last wishes that were acted on.
    pub desired_serial: Option<u64>,
    /// Why one cannot be fulfilled.
    pub desired_problem: Option<String>,
    /// Why the configuration stays as it was.
    pub configuration_problem: Option<String>,
    /// New requests are held.
    pub paused: Option<Paused>,
    /// The active instance is not well, and nothing better is known.
    pub alarm: Option<Alarm>,
    /// The releases that can be gone back to.
    pub earlier: Vec<String>,
    /// What is not tried again.
    pub refused: Vec<Refusal>,
    /// The last time that requests went back to a release.
    pub last_rollback: Option<Rollback>,
}

/// New requests are held.
#[derive(Clone, Debug, Deserialize)]
pub struct Paused {
    /// Until then.
    pub until_ms: u64,
    /// What has not ended.
    pub in_flight: usize,
}

/// The live check of the active instance fell.
#[derive(Clone, Debug, Deserialize)]
pub struct Alarm {
    /// Which instance.
    pub generation: u64,
    /// What the check said.
    pub reason: String,
}

/// A content that is not tried again.
#[derive(Clone, Debug, Deserialize)]
pub struct Refusal {
    /// What it was called.
    pub release: String,
    /// `sha256:…`.
    pub digest: String,
    /// One line for a person.
    pub reason: String,
    /// The exit status, if it exited.
    pub exit: Option<String>,
    /// The last lines that it wrote.
    pub output: Vec<String>,
    /// What the last health check said.
    pub probe: Option<String>,
}

/// Requests went back.
#[derive(Clone, Debug, Deserialize)]
pub struct Rollback {
    /// From this launch.
    pub from: u64,
    /// To this earlier one.
    pub to: u64,
    /// From the verdict to the first request that could go there, in microseconds.
    pub took_us: u64,
}

/// One process tree.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// Its launch number.
    pub generation: u64,
    /// What it runs.
    pub release: String,
    /// The root process.
    pub pid: Option<u32>,
    /// Where it listens, once that is known.
    pub address: Option<SocketAddr>,
    /// Requests and tunnels that have not ended.
    pub in_flight: usize,
    /// What is not as it should be with who listens.
    pub warning: Option<String>,
}

/// Why an instance failed.
#[derive(Clone, Debug, Deserialize)]
pub struct Failure {
    /// What it ran.
    pub release: String,
    /// Its launch number.
    pub generation: u64,
    /// One line for a person.
    pub reason: String,
    /// The exit status, if it exited.
    pub exit: Option<String>,
    /// The last lines that it wrote.
    pub output: Vec<String>,
    /// What the last health check said.
    pub probe: Option<String>,
}

/// One launch, and what became of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Handoff {
    /// What was launched.
    pub release: String,
    /// Its content: `sha256:…`.
    pub digest: String,
    /// The launch number.
    pub generation: u64,
    /// `starting`, `promoted`, `refused`, `failed` or `abandoned`.
    pub outcome: String,
    /// When it got the requests.
    pub promoted_ms: Option<u64>,
    /// Whom it took them from.
    pub superseded_generation: Option<u64>,
    /// When nothing was in flight to that one any more.
    pub drained_ms: Option<u64>,
    /// When that one's processes were gone.
    pub stopped_ms: Option<u64>,
    /// Why it failed, if it did.
    pub reason: Option<String>,
}

impl Status {
    /// What the sidecar with this process id has published last, if it has yet.
    pub(crate) fn read(state: &Path, pid: u32) -> Option<Self> {
        let mut all = Self::all(state).into_iter();
        all.find(|status| status.pid == pid)
    }

    /// What the sidecars that share a state have published last.
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
                let status: serde_json::Result<Self> = serde_json::from_slice(&json);
                // It is replaced in one step: half a status is a fault.
                status.unwrap_or_else(|error| {
                    let json = String::from_utf8_lossy(&json);
                    panic!("the status cannot be read: {error}: {json}")
                })
            })
            .collect()
    }

    /// Whether this release gets the new requests.
    pub fn is_active(&self, release: &str) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| is_of(&active.release, release))
    }

    /// Whether this release starts.
    pub fn is_candidate(&self, release: &str) -> bool {
        let candidate = self.candidate.as_ref();
        candidate.is_some_and(|candidate| is_of(&candidate.release, release))
    }

    /// Whether this release drains.
    pub fn is_draining(&self, release: &str) -> bool {
        let mut draining = self.draining.iter();
        draining.any(|draining| is_of(&draining.release, release))
    }

    /// Whether this release is on standby.
    pub fn is_on_standby(&self, release: &str) -> bool {
        let standby = self.standby.as_ref();
        standby.is_some_and(|standby| is_of(&standby.release, release))
    }

    /// Why this release is not tried again, if it is not.
    pub fn refusal(&self, release: &str) -> Option<&Refusal> {
        let mut refused = self.refused.iter();
        refused.find(|refusal| is_of(&refusal.release, release))
    }

    /// The active instance's launch number.
    pub fn generation(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.generation)
    }

    /// The latest launch of a release.
    pub fn handoff(&self, release: &str) -> Option<&Handoff> {
        let mut latest_first = self.handoffs.iter().rev();
        latest_first.find(|handoff| is_of(&handoff.release, release))
    }

    /// Whether the latest launch of a release came to this.
    pub fn has_outcome(&self, release: &str, outcome: &str) -> bool {
        let handoff = self.handoff(release);
        handoff.is_some_and(|handoff| handoff.outcome == outcome)
    }

    /// Whether nothing but one active instance runs.
    pub fn is_at_rest(&self) -> bool {
        let others = self.draining.len() + self.stopping.len();
        self.active.is_some() && self.candidate.is_none() && others == 0
    }

    /// How many requests the active instance works on.
    pub fn in_flight(&self) -> usize {
        let active = self.active.as_ref();
        active.map_or(0, |active| active.in_flight)
    }
}

/// A release's name is its artifact's and the first digits of its digest.
fn is_of(id: &str, artifact: &str) -> bool {
    let digits = id
        .strip_prefix(artifact)
        .and_then(|rest| rest.strip_prefix('-'));
    digits.is_some_and(|digits| !digits.contains('-'))
}
