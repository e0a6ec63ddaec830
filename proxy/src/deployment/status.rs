//! The status of a sidecar: one snapshot, published on every change as
//! `<state>/sidecars/<id>.json`.
//!
//! Keys are only ever added, and each added key has a default: older and newer readers and writers
//! understand each other.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::anchored::{AnchoredStatus, UpgradeStatus};
pub use super::canary::CanaryStatus;
pub use super::command_status::{CommandEnd, CommandList, CommandStatus};
pub use super::data_left::DataLeft;
pub use super::gave_way::GaveWay;
pub use super::handoff::{Handoff, LaunchCause, Outcome};
pub use super::maintenance::MaintenanceStatus;
use super::path_serde;
use super::rollout::RolloutStatus;
pub use super::source_status::SourceStatus;
pub use super::unanswered::UnansweredRequests;
pub use super::unix_millis::UnixMillis;
use crate::os::machine::{host_name, shared_pid_namespace};
use crate::release::{Generation, Release, ReleaseId};

/// Number of the schema. It changes only when a key changes its meaning.
const SCHEMA: u32 = 1;
/// Maximum number of handoffs in the status.
const HISTORY: usize = 50;

/// The status of a sidecar at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    schema: u32,
    /// Random id of the sidecar.
    pub sidecar: Arc<str>,
    /// Version of handoff.
    pub version: Cow<'static, str>,
    /// Process id of handoff.
    pub pid: u32,
    /// The process that does the work, if `pid` is its anchor.
    #[serde(default)]
    pub anchored: Option<AnchoredStatus>,
    /// Machine on which `pid` has a meaning.
    pub machine: Option<String>,
    /// Name of the machine, for people.
    pub host: Option<String>,
    /// Public address.
    pub listen: SocketAddr,
    /// Address of the admin port, `--admin`.
    pub admin: Option<SocketAddr>,
    /// Options that name the artifact: a command needs only `--state` to find them.
    #[serde(default)]
    pub source: SourceStatus,
    /// Key of the app's command line, which the sidecars of a deployment have in common.
    pub command: Option<String>,
    /// Path of the log file, if there is one.
    #[serde(serialize_with = "path_serde::shown")]
    pub log_file: Option<PathBuf>,
    /// Time of the start.
    pub started_ms: UnixMillis,
    /// Time of the last sign of life; a live sidecar gives one every three seconds or so.
    pub heartbeat_ms: UnixMillis,
    /// State of the sidecar as a whole.
    pub phase: Phase,
    /// The instance that receives all new requests.
    pub active: Option<InstanceStatus>,
    /// The instance that starts and is checked.
    pub candidate: Option<InstanceStatus>,
    /// The superseded idle instance that is kept for a rollback.
    pub standby: Option<InstanceStatus>,
    /// The instance that is ready and serves only when that is requested.
    pub staged: Option<InstanceStatus>,
    /// End of its time.
    pub staged_until_ms: Option<UnixMillis>,
    /// True if the sidecar can stage a release; versions before could not.
    #[serde(default)]
    pub can_stage: bool,
    /// The state of the staged instance as a canary, if it is one.
    pub canary: Option<CanaryStatus>,
    /// True if a release may be a canary; versions before had none.
    #[serde(default)]
    pub can_canary: bool,
    /// Superseded instances with requests in flight.
    #[serde(default)]
    pub draining: Vec<InstanceStatus>,
    /// Instances that have been asked to stop.
    #[serde(default)]
    pub stopping: Vec<InstanceStatus>,
    /// Number of requests that wait for an active instance.
    #[serde(default)]
    pub held: usize,
    /// Reason why no artifact can be accepted at the moment.
    pub artifact_problem: Option<String>,
    /// The artifact that is accepted when it has stopped changing.
    pub settling: Option<Settling>,
    /// Data that the release before has left in its private copy.
    pub data_left: Option<DataLeft>,
    /// Digest of an artifact that can never be accepted, if the digest came with it.
    pub artifact_refused: Option<String>,
    /// The last failure of an instance.
    pub last_failure: Option<Failure>,
    /// Launches and their outcomes, oldest first.
    #[serde(default)]
    pub handoffs: VecDeque<Handoff>,
    /// The last `serial` of `desired.json` whose commands were executed.
    pub desired_serial: Option<u64>,
    /// Reason why a command of that file cannot be executed.
    pub desired_problem: Option<String>,
    /// The last commands of that file.
    #[serde(default)]
    pub commands: CommandList,
    /// Reason why changed configuration files have no effect.
    pub configuration_problem: Option<String>,
    /// Target of the last rollback command.
    pub rollback_to: Option<ReleaseId>,
    /// The pause, while a command holds new requests.
    pub paused: Option<Paused>,
    /// The maintenance, while a command refuses new requests.
    pub maintenance: Option<MaintenanceStatus>,
    /// End of the trial of the active instance.
    pub bakes_until_ms: Option<UnixMillis>,
    /// Failure of the liveness check of the active instance, with no better instance known.
    pub alarm: Option<Alarm>,
    /// Requests that the active instance has left unanswered for some time.
    pub unanswered: Option<UnansweredRequests>,
    /// Releases to which a rollback is possible, the latest last.
    #[serde(default)]
    pub earlier: Vec<ReleaseId>,
    /// Contents that are not tried again until they change or a command asks for it, latest last.
    #[serde(default)]
    pub refused: Vec<Refusal>,
    /// The last time that requests returned to an earlier instance.
    pub last_rollback: Option<Rollback>,
    /// True in each sidecar that obeys `rollout` in `desired.json`.
    #[serde(default)]
    pub follows_rollouts: bool,
    /// True while the sidecar may not run the deployed artifact yet.
    #[serde(default)]
    pub awaits_turn: bool,
    /// The staged roll-out of the deployed artifact.
    pub rollout: Option<RolloutStatus>,
    /// The newest release while an earlier one serves because of its crashes, and until it has
    /// served for long enough again.
    pub gave_way: Option<GaveWay>,
}

/// An artifact without a digest that may still change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Path of the artifact.
    pub artifact: String,
    /// Time in milliseconds for which it must not change.
    pub period_ms: u64,
    /// Time of its last change.
    pub changed_ms: UnixMillis,
    /// True if a process that has it open for writing would be seen.
    pub sees_writers: bool,
}

/// A pause: new requests are held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Latest end of the pause.
    pub until_ms: UnixMillis,
    /// Number of unfinished requests and tunnels, in all instances.
    pub in_flight: usize,
}

/// A failed liveness check of the active instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Launch number of the instance.
    pub generation: Generation,
    /// Time of the failure.
    pub since_ms: UnixMillis,
    /// Message of the last liveness check.
    pub reason: String,
}

/// A return of requests to an instance that had been superseded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// Launch number of the instance that lost the requests.
    pub from: Generation,
    /// Launch number of the earlier instance.
    pub to: Generation,
    /// Time of the rollback.
    pub at_ms: UnixMillis,
    /// Time from the decision to the first request that could reach the earlier instance, in
    /// microseconds.
    pub took_us: u64,
}

/// The state of a sidecar as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The sidecar serves.
    Running,
    /// The sidecar shuts down.
    Stopping,
    /// A state that only newer versions know.
    #[serde(other)]
    Unknown,
}

/// The status of an instance at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Launch number.
    pub generation: Generation,
    /// Release that it runs.
    pub release: ReleaseId,
    /// Digest of the release: `sha256:…`.
    pub digest: String,
    /// Path at which the release was deployed.
    #[serde(serialize_with = "path_serde::shown")]
    pub source: Option<PathBuf>,
    /// Process id of the root process.
    pub pid: Option<u32>,
    /// Address on which it listens, once that is known.
    pub address: Option<SocketAddr>,
    /// Time at which it entered its state.
    pub since_ms: UnixMillis,
    /// Number of unfinished requests and tunnels.
    #[serde(default)]
    pub in_flight: usize,
    /// Number of tunnels among them.
    #[serde(default)]
    pub tunnels: usize,
    /// Message of the last health check, while none has succeeded.
    pub probe: Option<String>,
    /// Problem with the process that listens on its port.
    pub warning: Option<String>,
    /// Fact about its port that is worth knowing and no problem.
    #[serde(default)]
    pub note: Option<String>,
    /// File in which the app reads its own state.
    #[serde(default, serialize_with = "path_serde::shown")]
    pub state_file: Option<PathBuf>,
    /// Resident memory of all its processes in bytes, measured when the status was written.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Number of clients whose sessions began there and go on although it has been superseded.
    #[serde(default)]
    pub sessions: Option<usize>,
    /// Latest end of these sessions.
    #[serde(default)]
    pub sessions_until_ms: Option<UnixMillis>,
}

/// The failure of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Release that it ran.
    pub release: ReleaseId,
    /// Digest of the release: `sha256:…`.
    pub digest: String,
    /// Launch number.
    pub generation: Generation,
    /// Time of the failure.
    pub at_ms: UnixMillis,
    /// Reason, as one line for a person.
    pub reason: String,
    /// Error that its output names, with its place in the code.
    #[serde(default)]
    pub error: Option<String>,
    /// Exit status, if it exited.
    pub exit: Option<String>,
    /// Number of requests in flight when it ended while active: one of them may be the cause.
    #[serde(default)]
    pub in_flight: usize,
    /// Last lines of its output.
    #[serde(default)]
    pub output: VecDeque<String>,
    /// Message of the last health check.
    pub probe: Option<String>,
}

/// A content that is not tried again until a command asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Name of the release.
    pub release: ReleaseId,
    /// Digest of the content: `sha256:…`.
    pub digest: String,
    /// Hash of the rights to be run and of the empty folders: with others, the release is tried
    /// again. Empty if only a command makes that happen.
    #[serde(default)]
    pub shape: String,
    /// Time of the refusal.
    pub at_ms: UnixMillis,
    /// Reason, as one line for a person.
    pub reason: String,
    /// Error that the instance's output names, with its place in the code.
    #[serde(default)]
    pub error: Option<String>,
    /// Exit status, if the instance exited.
    #[serde(default)]
    pub exit: Option<String>,
    /// Last lines of the instance's output.
    #[serde(default)]
    pub output: Vec<String>,
    /// Message of the last health check.
    #[serde(default)]
    pub probe: Option<String>,
}

// === impl Status ===

impl Status {
    /// Creates the status of a sidecar that has just bound its port.
    pub fn new(sidecar: Arc<str>, listen: SocketAddr, source: SourceStatus) -> Self {
        let now = UnixMillis::now();
        Self {
            schema: SCHEMA,
            sidecar,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            anchored: None,
            machine: shared_pid_namespace(),
            host: host_name(),
            listen,
            admin: None,
            source,
            command: None,
            log_file: None,
            started_ms: now,
            heartbeat_ms: now,
            phase: Phase::Running,
            active: None,
            candidate: None,
            standby: None,
            staged: None,
            staged_until_ms: None,
            can_stage: false,
            canary: None,
            can_canary: false,
            draining: Vec::new(),
            stopping: Vec::new(),
            held: 0,
            artifact_problem: None,
            settling: None,
            data_left: None,
            follows_rollouts: true,
            awaits_turn: false,
            rollout: None,
            artifact_refused: None,
            last_failure: None,
            handoffs: VecDeque::new(),
            desired_serial: None,
            desired_problem: None,
            commands: CommandList::default(),
            configuration_problem: None,
            rollback_to: None,
            paused: None,
            maintenance: None,
            bakes_until_ms: None,
            alarm: None,
            unanswered: None,
            earlier: Vec::new(),
            refused: Vec::new(),
            last_rollback: None,
            gave_way: None,
        }
    }

    /// Adds a launch, and removes the oldest one when there are too many.
    pub fn add_launch(&mut self, release: &Release, generation: Generation) -> &mut Handoff {
        // Those of an earlier process of the sidecar may be more.
        let excess = (self.handoffs.len() + 1).saturating_sub(HISTORY);
        self.handoffs.drain(..excess);
        self.handoffs.push_back(Handoff::new(release, generation));
        let last = self.handoffs.len() - 1;
        &mut self.handoffs[last]
    }

    /// Returns the launch of `generation`, if it is still listed.
    pub fn handoff_mut(&mut self, generation: Generation) -> Option<&mut Handoff> {
        self.handoffs
            .iter_mut()
            .rev()
            .find(|handoff| handoff.generation == generation)
    }

    /// Returns the launch that superseded `generation`.
    pub fn superseding_mut(&mut self, generation: Generation) -> Option<&mut Handoff> {
        self.handoffs
            .iter_mut()
            .rev()
            .find(|handoff| handoff.superseded_generation == Some(generation))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::deployment::source::Source;

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
