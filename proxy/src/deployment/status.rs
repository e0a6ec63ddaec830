//! What anybody may know of a sidecar: one snapshot, published on every change.
//!
//! The file `<state>/sidecars/<id>.json` is its published form. Keys are only ever added, and what
//! is added has a default: older and newer readers and writers understand each other.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::path_serde;
use super::source::Source;
use crate::os::machine::machine;
use crate::release::{Generation, Release, ReleaseId};

/// The schema's number. It changes only when a key changes its meaning.
const SCHEMA: u32 = 1;
/// So many handoffs are remembered.
const HISTORY: usize = 50;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixMillis(pub u64);

/// A sidecar at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    schema: u32,
    /// The sidecar's random id.
    pub sidecar: Arc<str>,
    /// handoff's own.
    pub version: Cow<'static, str>,
    /// handoff's own process.
    pub pid: u32,
    /// What gives `pid` its meaning; see [`machine`].
    pub machine: Option<String>,
    /// The public address.
    pub listen: SocketAddr,
    /// Where it can be looked at: `--admin`.
    pub admin: Option<SocketAddr>,
    /// Where it looks for artifacts: a command needs to be told of `--state` only.
    #[serde(default)]
    pub source: SourceStatus,
    /// Where its log is, if that is a file.
    #[serde(serialize_with = "path_serde::shown")]
    pub log_file: Option<PathBuf>,
    /// When it came up.
    pub started_ms: UnixMillis,
    /// Written at least every second or so while it lives.
    pub heartbeat_ms: UnixMillis,
    /// Whether it is shutting down.
    pub phase: Phase,
    /// Gets all new requests.
    pub active: Option<InstanceStatus>,
    /// Starts, and is checked.
    pub candidate: Option<InstanceStatus>,
    /// Superseded and idle, kept to go back to.
    pub standby: Option<InstanceStatus>,
    /// Superseded, with requests in flight.
    #[serde(default)]
    pub draining: Vec<InstanceStatus>,
    /// Asked to stop.
    #[serde(default)]
    pub stopping: Vec<InstanceStatus>,
    /// Requests that wait for an active instance.
    #[serde(default)]
    pub held: usize,
    /// Why no artifact can be accepted at the moment.
    pub artifact_problem: Option<String>,
    /// The content of an artifact that never can be, whose digest came with it.
    pub artifact_refused: Option<String>,
    /// Why the last instance that failed did.
    pub last_failure: Option<Failure>,
    /// Oldest first.
    #[serde(default)]
    pub handoffs: VecDeque<Handoff>,
    /// The last `serial` of `desired.json` that was acted on.
    pub desired_serial: Option<u64>,
    /// Why what that file says cannot be done.
    pub desired_problem: Option<String>,
    /// Why the configuration stays as it was, though its files have changed.
    pub configuration_problem: Option<String>,
    /// Where the last rollback that somebody asked for goes, or went.
    pub rollback_to: Option<ReleaseId>,
    /// New requests are held because somebody asked for it.
    pub paused: Option<Paused>,
    /// The active instance is on trial until then.
    pub bakes_until_ms: Option<UnixMillis>,
    /// The active instance is not well, and nothing better is known.
    pub alarm: Option<Alarm>,
    /// The releases that can be gone back to, the latest last.
    #[serde(default)]
    pub earlier: Vec<ReleaseId>,
    /// What is not tried again until its content changes or somebody asks, the latest last.
    #[serde(default)]
    pub refused: Vec<Refusal>,
    /// The last time that requests went back to a release.
    pub last_rollback: Option<Rollback>,
}

/// New requests are held because somebody asked for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Paused {
    /// Until then, if nobody ends it before.
    pub until_ms: UnixMillis,
    /// Requests and tunnels that have not ended, in all instances.
    pub in_flight: usize,
}

/// The live check of the active instance fell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alarm {
    /// Which instance.
    pub generation: Generation,
    /// Since when.
    pub since_ms: UnixMillis,
    /// What the last live check said.
    pub reason: String,
}

/// Requests went back to an instance that had been superseded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rollback {
    /// From this launch.
    pub from: Generation,
    /// To this earlier one.
    pub to: Generation,
    /// When.
    pub at_ms: UnixMillis,
    /// From the verdict to the first request that could go there, in microseconds.
    pub took_us: u64,
}

/// Where a sidecar looks for artifacts: its options of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `--artifact`
    #[serde(serialize_with = "path_serde::shown")]
    pub artifact: Option<PathBuf>,
    /// `--pointer`
    #[serde(serialize_with = "path_serde::shown")]
    pub pointer: Option<PathBuf>,
    /// `--watch`
    #[serde(serialize_with = "path_serde::shown")]
    pub watch: Option<PathBuf>,
}

/// What the sidecar as a whole does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Serves.
    Running,
    /// Shuts down.
    Stopping,
    /// A newer sidecar's word.
    #[serde(other)]
    Unknown,
}

/// One instance at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its launch number.
    pub generation: Generation,
    /// What it runs.
    pub release: ReleaseId,
    /// The content of that.
    pub digest: String,
    /// Where that was deployed.
    #[serde(serialize_with = "path_serde::shown")]
    pub source: Option<PathBuf>,
    /// The root process.
    pub pid: Option<u32>,
    /// Where it listens, once that is known.
    pub address: Option<SocketAddr>,
    /// When it came into this state.
    pub since_ms: UnixMillis,
    /// Requests and tunnels that have not ended.
    #[serde(default)]
    pub in_flight: usize,
    /// How many of them are tunnels.
    #[serde(default)]
    pub tunnels: usize,
    /// What the last health check said, while none has succeeded.
    pub probe: Option<String>,
    /// What is not as it should be with who listens on its port.
    pub warning: Option<String>,
}

/// Why an instance failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What it ran.
    pub release: ReleaseId,
    /// The content of that.
    pub digest: String,
    /// Its launch number.
    pub generation: Generation,
    /// When.
    pub at_ms: UnixMillis,
    /// One line for a person.
    pub reason: String,
    /// The exit status, if it exited.
    pub exit: Option<String>,
    /// The last lines that it wrote.
    #[serde(default)]
    pub output: VecDeque<String>,
    /// What the last health check said.
    pub probe: Option<String>,
}

/// One launch, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handoff {
    /// What was launched.
    pub release: ReleaseId,
    /// The content of that.
    pub digest: String,
    /// The launch number.
    pub generation: Generation,
    /// What became of it.
    pub outcome: Outcome,
    /// When the artifact was first seen.
    pub detected_ms: Option<UnixMillis>,
    /// When its private copy was complete.
    pub copied_ms: Option<UnixMillis>,
    /// When the process was started.
    pub launched_ms: UnixMillis,
    /// When the health check succeeded.
    pub ready_ms: Option<UnixMillis>,
    /// When it got the requests.
    pub promoted_ms: Option<UnixMillis>,
    /// Whom it took them from.
    pub superseded_generation: Option<Generation>,
    /// When nothing was in flight to that one any more.
    pub drained_ms: Option<UnixMillis>,
    /// When that one's processes were gone.
    pub stopped_ms: Option<UnixMillis>,
    /// Why it failed, if it did.
    pub reason: Option<String>,
}

/// What became of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It starts.
    Starting,
    /// It got the requests.
    Promoted,
    /// It failed while another one served, and is not tried again.
    Refused,
    /// It failed, and is tried again.
    Failed,
    /// Something newer came first.
    Abandoned,
    /// A newer sidecar's word.
    #[serde(other)]
    Unknown,
}

/// A content that is not tried again until somebody asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What it was called.
    pub release: ReleaseId,
    /// The content: `sha256:…`.
    pub digest: String,
    /// When.
    pub at_ms: UnixMillis,
    /// One line for a person.
    pub reason: String,
    /// The exit status, if it exited.
    #[serde(default)]
    pub exit: Option<String>,
    /// The last lines that it wrote.
    #[serde(default)]
    pub output: Vec<String>,
    /// What the last health check said.
    #[serde(default)]
    pub probe: Option<String>,
}

// === impl UnixMillis ===

impl UnixMillis {
    /// Now, by the system's clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since_epoch.unwrap_or_default().as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

// === impl SourceStatus ===

impl From<&Source> for SourceStatus {
    fn from(source: &Source) -> Self {
        let (artifact, pointer, watch) = match source.clone() {
            Source::Artifact(path) => (Some(path), None, None),
            Source::Pointer { file, folder } => (None, Some(file), folder),
            Source::Folder(folder) => (None, None, Some(folder)),
        };
        Self {
            artifact,
            pointer,
            watch,
        }
    }
}

// === impl Status ===

impl Status {
    /// A sidecar that has just bound its port.
    pub fn new(sidecar: Arc<str>, listen: SocketAddr, source: SourceStatus) -> Self {
        let now = UnixMillis::now();
        Self {
            schema: SCHEMA,
            sidecar,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            machine: machine(),
            listen,
            admin: None,
            source,
            log_file: None,
            started_ms: now,
            heartbeat_ms: now,
            phase: Phase::Running,
            active: None,
            candidate: None,
            standby: None,
            draining: Vec::new(),
            stopping: Vec::new(),
            held: 0,
            artifact_problem: None,
            artifact_refused: None,
            last_failure: None,
            handoffs: VecDeque::new(),
            desired_serial: None,
            desired_problem: None,
            configuration_problem: None,
            rollback_to: None,
            paused: None,
            bakes_until_ms: None,
            alarm: None,
            earlier: Vec::new(),
            refused: Vec::new(),
            last_rollback: None,
        }
    }

    /// Remembers a launch.
    pub fn launched(&mut self, release: &Release, generation: Generation) -> &mut Handoff {
        if self.handoffs.len() == HISTORY {
            self.handoffs.pop_front();
        }
        self.handoffs.push_back(Handoff::new(release, generation));
        let last = self.handoffs.len() - 1;
        &mut self.handoffs[last]
    }

    /// The launch of `generation`, if it is still remembered.
    pub fn handoff(&mut self, generation: Generation) -> Option<&mut Handoff> {
        self.handoffs
            .iter_mut()
            .rev()
            .find(|handoff| handoff.generation == generation)
    }

    /// The handoff that took the requests from `generation`.
    pub fn superseding(&mut self, generation: Generation) -> Option<&mut Handoff> {
        self.handoffs
            .iter_mut()
            .rev()
            .find(|handoff| handoff.superseded_generation == Some(generation))
    }
}

// === impl Handoff ===

impl Handoff {
    /// A launch that has just been made.
    pub fn new(release: &Release, generation: Generation) -> Self {
        Self {
            release: release.id.clone(),
            digest: release.digest.to_string(),
            generation,
            outcome: Outcome::Starting,
            detected_ms: None,
            copied_ms: None,
            launched_ms: UnixMillis::now(),
            ready_ms: None,
            promoted_ms: None,
            superseded_generation: None,
            drained_ms: None,
            stopped_ms: None,
            reason: None,
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_shown_all_the_same() {
        let path = PathBuf::from(OsStr::from_bytes(b"/sites/gr\xf6\xdfe"));
        let source = Source::Pointer {
            file: path.clone(),
            folder: Some(path),
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 80));
        let status = Status::new("me".into(), listen, (&source).into());
        let json = serde_json::to_vec(&status).unwrap();
        let read: Status = serde_json::from_slice(&json).unwrap();
        let shown = PathBuf::from("/sites/gr\u{fffd}\u{fffd}e");
        assert_eq!(read.source.watch, Some(shown));
        assert_eq!(read.log_file, None);
    }
}
