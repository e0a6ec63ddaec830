//! The record of what happens: the log, the published status, and the memory of this machine.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::instances::InstanceState;
use super::releases::{Accepted, Releases};
use crate::control_plane::lifecycle::{Event, RefusalCause};
use crate::control_plane::memory::Memory;
use crate::deployment::stated_error::{last_lines, stated_error};
use crate::deployment::status::{
    Alarm, Failure, LaunchCause, Outcome, Refusal, Rollback, Status, UnixMillis,
};
use crate::process::Exit;
use crate::release::{Generation, ReleaseId};

/// Maximum size of the output of the last failure in the status: lines and bytes.
const FAILURE_OUTPUT: (usize, usize) = (60, 12 * 1024);
/// Maximum number of refused releases in the status, the latest.
const REFUSALS: usize = 10;

/// The status, its published form, and the memory.
#[derive(Debug)]
pub(super) struct StatusJournal {
    pub(super) status: Status,
    pub(super) memory: Memory,
    publisher: watch::Sender<Status>,
    /// The event that is being acted on.
    pub(super) cause: Cause,
}

/// The reason for what the supervisor does now.
#[derive(Debug)]
pub(super) struct Cause {
    at: Instant,
    text: String,
}

/// A change of an instance's state, for the log.
pub(super) enum Change {
    Launched { pid: u32, port: u16 },
    Adopted { pid: u32 },
    NotLaunched,
    Promoted { address: SocketAddr, took: Duration },
    Kept,
    Pinned,
    Staged,
    Draining { in_flight: usize },
    Stopping,
    Gone,
}

/// Details of a failure.
#[derive(Default)]
pub(super) struct FailureDetails {
    pub(super) exit: Option<Exit>,
    pub(super) output: VecDeque<String>,
    pub(super) probe: Option<String>,
    /// Number of requests that were in flight.
    pub(super) in_flight: usize,
}

// === impl StatusJournal ===

impl StatusJournal {
    /// Creates a journal that goes on from the status that `publisher` holds.
    pub(super) fn new(publisher: watch::Sender<Status>, memory: Memory) -> Self {
        let status = publisher.borrow().clone();
        Self {
            status,
            memory,
            publisher,
            cause: Cause::now(String::new()),
        }
    }

    /// Logs a change of an instance's state. `None` is the state before the launch or after the
    /// end.
    pub(super) fn log_change(
        &self,
        generation: Generation,
        release: &ReleaseId,
        (from, to): (Option<InstanceState>, Option<InstanceState>),
        change: &Change,
    ) {
        tracing::info!(
            event = change.event(),
            generation = generation.0,
            %release,
            from = from.map_or("nothing", InstanceState::name),
            to = to.map_or("gone", InstanceState::name),
            reason = %self.cause.text,
            "{change}"
        );
    }

    pub(super) fn record_launch(
        &mut self,
        accepted: &Accepted,
        generation: Generation,
        cause: LaunchCause,
    ) {
        let handoff = self.status.add_launch(&accepted.release, generation);
        handoff.cause = cause;
        handoff.detected_ms = Some(accepted.detected.into());
        handoff.copied_ms = Some(accepted.copied.into());
        // If this sidecar ends now, the next one knows.
        self.memory
            .record_launch(&accepted.release, handoff.clone());
    }

    pub(super) fn record_ready(&mut self, generation: Generation) {
        if let Some(handoff) = self.status.handoff_mut(generation) {
            handoff.ready_ms = Some(UnixMillis::now());
        }
    }

    /// Records that an instance that was `from` gets the requests of `superseded`.
    pub(super) fn record_promotion(
        &mut self,
        generation: Generation,
        from: InstanceState,
        superseded: Option<Generation>,
        took: Duration,
    ) {
        let is_candidate = matches!(from, InstanceState::Candidate | InstanceState::Staged);
        if let Some(handoff) = self.status.handoff_mut(generation) {
            handoff.outcome = Outcome::Promoted;
            handoff.promoted_ms.get_or_insert_with(UnixMillis::now);
            if is_candidate {
                handoff.superseded_generation = superseded;
            }
        }
        if !is_candidate && let Some(from) = superseded {
            self.status.last_rollback = Some(Rollback {
                from,
                to: generation,
                at_ms: UnixMillis::now(),
                took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            });
        }
    }

    /// Copies the handoff of a promoted instance from the status to the memory.
    pub(super) fn remember_promotion(&mut self, generation: Generation, releases: &Releases) {
        if let Some(handoff) = self.status.handoff_mut(generation).cloned()
            && let Some(accepted) = releases.get(&handoff.release)
        {
            self.memory.record_promotion(&accepted.release, handoff);
        }
    }

    /// Copies the handoff of an instance from the status to the memory.
    pub(super) fn remember_launch(&mut self, generation: Generation, releases: &Releases) {
        if let Some(handoff) = self.status.handoff_mut(generation).cloned()
            && let Some(accepted) = releases.get(&handoff.release)
        {
            self.memory.record_launch(&accepted.release, handoff);
        }
    }

    pub(super) fn record_drained(&mut self, generation: Generation) {
        if let Some(handoff) = self.status.superseding_mut(generation) {
            handoff.drained_ms = Some(UnixMillis::now());
        }
    }

    /// Records that a candidate has been asked to stop.
    pub(super) fn record_abandoned(&mut self, generation: Generation) {
        if let Some(handoff) = self.status.handoff_mut(generation)
            && handoff.outcome == Outcome::Starting
        {
            handoff.outcome = Outcome::Abandoned;
        }
    }

    /// Records the end of an instance in the handoff that superseded it.
    pub(super) fn record_end(&mut self, generation: Generation, releases: &Releases) {
        if let Some(handoff) = self.status.superseding_mut(generation) {
            let now = UnixMillis::now();
            handoff.drained_ms.get_or_insert(now);
            handoff.stopped_ms.get_or_insert(now);
            let successor = handoff.generation;
            self.remember_launch(successor, releases);
        }
    }

    pub(super) fn record_failure(
        &mut self,
        generation: Generation,
        release: ReleaseId,
        digest: String,
        reason: String,
        details: FailureDetails,
    ) {
        tracing::error!(
            event = "instance_failed",
            generation = generation.0,
            %release,
            in_flight = details.in_flight,
            %reason,
            "instance failed"
        );
        if let Some(handoff) = self.status.handoff_mut(generation)
            && handoff.promoted_ms.is_none()
        {
            handoff.outcome = Outcome::Failed;
            handoff.reason = Some(reason.clone());
        }
        let (exit, output) = match details.exit {
            Some(exit) => (Some(exit.status), exit.output),
            None => (None, details.output),
        };
        let output = Vec::from(output);
        let (lines, bytes) = FAILURE_OUTPUT;
        self.status.last_failure = Some(Failure {
            release,
            digest,
            generation,
            at_ms: UnixMillis::now(),
            reason,
            error: stated_error(&output),
            exit,
            in_flight: details.in_flight,
            output: last_lines(&output, lines, bytes).to_vec().into(),
            probe: details.probe,
        });
    }

    /// Returns the last failure, if it is this release's.
    pub(super) fn failure_of(&self, release: &ReleaseId) -> Option<&Failure> {
        let failure = self.status.last_failure.as_ref();
        failure.filter(|failure| failure.release == *release)
    }

    /// Records a refusal in the status of the launch, and in the memory, so that all sidecars of
    /// this machine refuse the release, also after a restart.
    pub(super) fn record_refusal(
        &mut self,
        generation: Option<Generation>,
        release: ReleaseId,
        (cause, reason): (RefusalCause, String),
        releases: &Releases,
    ) {
        if let Some(generation) = generation {
            if let Some(handoff) = self.status.handoff_mut(generation) {
                handoff.outcome = Outcome::Refused;
                handoff.reason.get_or_insert_with(|| reason.clone());
            }
            self.remember_launch(generation, releases);
        }
        let Some(accepted) = releases.get(&release) else {
            return;
        };
        let failure = self.failure_of(&release).cloned();
        let mut refusal = Refusal {
            digest: accepted.release.digest.to_string(),
            shape: accepted.refused_shape(cause),
            release,
            at_ms: UnixMillis::now(),
            reason,
            error: None,
            exit: None,
            output: Vec::new(),
            probe: None,
        };
        if let Some(failure) = failure.filter(|_| cause == RefusalCause::Failed) {
            refusal.error = failure.error;
            refusal.exit = failure.exit;
            refusal.output = failure.output.into();
            refusal.probe = failure.probe;
        }
        self.memory.refuse(refusal);
    }

    pub(super) fn raise_alarm(&mut self, generation: Generation, reason: String) {
        self.status.alarm = Some(Alarm {
            generation,
            since_ms: UnixMillis::now(),
            reason,
        });
    }

    /// Returns the status that was published last.
    pub(super) fn published(&self) -> watch::Ref<'_, Status> {
        self.publisher.borrow()
    }

    /// Publishes the status, completed by `complete`.
    pub(super) fn publish(&self, complete: impl FnOnce(&mut Status)) {
        let mut status = self.status.clone();
        status.heartbeat_ms = UnixMillis::now();
        let refused = self.memory.refusals();
        status.refused = refused[refused.len().saturating_sub(REFUSALS)..].to_vec();
        complete(&mut status);
        self.publisher.send_replace(status);
    }
}

// === impl Cause ===

impl Cause {
    pub(super) fn now(text: String) -> Self {
        Self {
            at: Instant::now(),
            text,
        }
    }

    /// Returns the time since the supervisor learnt of the cause.
    pub(super) fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// Replaces the text; the time stays.
    pub(super) fn explain(&mut self, text: String) {
        self.text = text;
    }
}

impl From<&Event> for Cause {
    fn from(event: &Event) -> Self {
        let of = |generation: &Generation, what| format!("generation {generation} {what}");
        Self::now(match event {
            Event::Detected(_) => "a new artifact was detected".to_owned(),
            Event::NothingDetected => "there is no artifact any more".to_owned(),
            Event::OlderDetected(_) => "the newest artifact cannot serve".to_owned(),
            Event::LaunchFailed(generation) => of(generation, "could not be started"),
            Event::Ready(generation) => of(generation, "is ready"),
            Event::NeverReady(generation) => of(generation, "was not ready in time"),
            Event::Settled(generation) => of(generation, "has settled"),
            Event::LivenessLost(generation) => of(generation, "fails its liveness check"),
            Event::LivenessRecovered(generation) => of(generation, "passes its liveness check"),
            Event::TooManyErrors(generation) => of(generation, "answers with too many errors"),
            Event::CanaryPassed(generation) => of(generation, "has passed its canary"),
            Event::TrialEnded(generation) => of(generation, "has ended its trial"),
            Event::Exited(generation) => of(generation, "has ended"),
            Event::SessionsEnded(generation) => of(generation, "has no sessions any more"),
            Event::Drained(generation) => of(generation, "has nothing in flight"),
            Event::RetryDue => "the back-off is over".to_owned(),
            Event::ReturnDue(_) => "the pause after its crashes is over".to_owned(),
            Event::RetryRequested(_) => "a retry was requested".to_owned(),
            Event::RestartRequested => "a restart was requested".to_owned(),
            Event::StageRequested(_) => "a stage was requested".to_owned(),
            Event::PromoteRequested => "its promotion was requested".to_owned(),
            Event::AbortRequested => "its end was requested".to_owned(),
            Event::StageExpired(generation) => of(generation, "was not promoted in time"),
            Event::RollbackRequested(_) => "a rollback was requested".to_owned(),
            Event::PauseRequested => "a pause was requested".to_owned(),
            Event::PauseEnded => "the pause is over".to_owned(),
            Event::ShutdownRequested => "handoff shuts down".to_owned(),
            Event::PortClosed => "the public port is closed".to_owned(),
        })
    }
}

// === impl Change ===

impl Change {
    fn event(&self) -> &'static str {
        match self {
            Self::Launched { .. } => "instance_launched",
            Self::Adopted { .. } => "instance_adopted",
            Self::NotLaunched => "instance_not_launched",
            Self::Promoted { .. } => "instance_promoted",
            Self::Kept => "instance_kept",
            Self::Pinned => "instance_pinned",
            Self::Staged => "instance_staged",
            Self::Draining { .. } => "instance_draining",
            Self::Stopping => "instance_stopping",
            Self::Gone => "instance_gone",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launched { pid, port } => {
                write!(f, "instance launched as process {pid} for port {port}")
            }
            Self::Adopted { pid } => write!(
                f,
                "instance taken over as process {pid} from another process of handoff"
            ),
            Self::NotLaunched => write!(f, "instance could not be launched"),
            Self::Promoted { address, took } => {
                let micros = Duration::from_micros(u64::try_from(took.as_micros()).unwrap_or(0));
                let took = humantime::format_duration(micros);
                write!(f, "instance promoted at {address} within {took}")
            }
            Self::Kept => write!(f, "instance kept on standby"),
            Self::Pinned => write!(
                f,
                "instance superseded; clients whose sessions began there still reach it"
            ),
            Self::Staged => write!(f, "instance staged: it awaits `handoff promote`"),
            Self::Draining { in_flight } => {
                write!(f, "instance drains, with {in_flight} in flight")
            }
            Self::Stopping => write!(f, "instance asked to stop"),
            Self::Gone => write!(f, "instance gone"),
        }
    }
}
