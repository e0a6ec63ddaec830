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
    /// `running` or `stopping`.
    pub phase: String,
    /// Gets all new requests.
    pub active: Option<Instance>,
    /// Starts, and is checked.
    pub candidate: Option<Instance>,
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
