//! The policy: which instances there should be, and which of them is routed.
//!
//! The states of one instance:
//!
//! ```text
//!             launch             ready               superseded           drained               exited
//!  (release) ───────▶ candidate ──────▶ active ──────────────────▶ draining ─────▶ stopping ───────▶ gone
//!                        │               ▲  ▲                         │  │ drained,    ▲
//!                        │               │  └── crash or rollback ────┘  │ during the  │
//!                        │               │                              ▼ trial       │ trial ended
//!                        │               └─ crash, failed trial, ─── standby ─────────┤
//!                        │                  rollback                                  │
//!                        └── never ready, superseded or shut down ────────────────────┘
//!  any state ── exited ──▶ gone
//! ```
//!
//! With sessions, a superseded instance is pinned before it finishes its requests: clients whose
//! sessions began there still reach it. Nothing in flight does not end it then.
//!
//! A candidate that is to be staged waits beside the active instance until it is promoted or given
//! up:
//!
//! ```text
//!              ready            promotion requested
//!  candidate ─────────▶ staged ────────────────────▶ active
//!                         └── aborted, superseded ──▶ draining
//! ```
//!
//! The states of the sidecar are two machines side by side. `Serving` is what gets new requests:
//!
//! ```text
//!             ready                         a release that cannot run beside it is to start
//!  Nothing ───────────▶ Active ──────────────────────────────────────────────▶ Displaced
//!     ▲                  │ ▲                                                    │ │
//!     └── crash, closed ─┘ └── ready, or the displaced instance is taken back ──┘ │
//!     └── the release that displaced it failed ───────────────────────────────────┘
//! ```
//!
//! `Incoming` is what is to serve next:
//!
//! ```text
//!         deploy, restart,                  room                     ready, failed,
//!         rescue, rollback                                           superseded
//!  None ───────────────────▶ WaitingForRoom ──────▶ Candidate ──────────────────────▶ None
//!    │                             ▲                    │
//!    │ crash                       │ back-off over      │ the launch failed, or nothing serves
//!    └───────────────────────▶ BackingOff ◀─────────────┘
//! ```
//!
//! [`Lifecycle::on`] is a pure function of the events so far: no tokio, no I/O, no clock. The
//! supervisor reports events and performs the actions; nothing else launches, promotes, drains or
//! stops. A test therefore walks through every order of events.

use std::collections::{BTreeMap, BTreeSet};

pub use self::adoption::LifecycleRecord;
pub use self::commands::RestartEnd;
pub use self::refusal::RefusalCause;
use self::state::{
    Active, Candidate, Draining, GaveWay, Health, Incoming, Instance, Phase, Planned,
};
use self::state::{Serving, Spare};
use crate::release::{Generation, ReleaseId};

mod adoption;
mod commands;
mod decide;
mod giving_way;
mod leaving;
mod refusal;
mod staging;
mod state;
mod steps;

/// Maximum number of releases that are remembered for having served, the active one included.
pub const GOOD: usize = 3;

/// The decisions, and all state that they depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    policy: Policy,
    launched: u64,
    serving: Serving,
    incoming: Incoming,
    draining: BTreeMap<Generation, Draining>,
    stopping: BTreeSet<Generation>,
    /// The stopping instance that was on standby: a candidate awaits its end.
    stopping_standby: Option<Generation>,
    /// The instance that is ready and serves only when that is requested.
    staged: Option<Instance>,
    /// The release that is to be staged.
    to_stage: Option<ReleaseId>,
    /// The newest artifact.
    wanted: Option<ReleaseId>,
    /// Releases that served, the latest last: the active one and those to go back to.
    good: Vec<ReleaseId>,
    /// Releases that served and are refused, the latest last: only a named rollback goes to one.
    former: Vec<ReleaseId>,
    refused: BTreeSet<ReleaseId>,
    /// Releases on trial when an earlier run of this sidecar ended, with unknown result.
    unproven: BTreeSet<ReleaseId>,
    /// Number of crashes and failed starts since an instance last settled, for the back-off.
    failures: u32,
    /// Number of crashes of each release while it served, since an instance of it settled.
    crashes: BTreeMap<ReleaseId, u32>,
    /// The newest release that gave way to the one before, until an instance of it settles.
    gave_way: Option<GaveWay>,
    /// The active instance when a restart was requested, until a newer one serves or the one that
    /// starts for it fails.
    to_restart: Option<Generation>,
    has_served: bool,
    /// True if a release served in an earlier run of this sidecar, or serves elsewhere.
    has_past: bool,
    phase: Phase,
}

/// The operator's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Maximum number of draining instances; the oldest beyond it is evicted.
    pub max_draining: usize,
    /// Number of crashes before an instance settles after which its release is given up.
    pub rapid_fails: u32,
    /// True if two instances may run side by side.
    pub can_overlap: bool,
    /// True if a new release is on trial, with the superseded instance on standby.
    pub has_trials: bool,
    /// True if the sidecar goes back to another release without being asked.
    pub may_go_back: bool,
    /// True if clients reach a superseded instance until their sessions there end.
    pub has_sessions: bool,
}

/// The reason for a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The release is to serve.
    Deploy,
    /// A new instance of the active release was requested.
    Restart,
    /// The active instance is unhealthy: another instance of its release may be better.
    Rescue,
    /// A rollback to the release was requested.
    Rollback,
}

/// A fact that the supervisor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This is the newest whole artifact.
    Detected(ReleaseId),
    /// There is no artifact that can be launched.
    NothingDetected,
    /// An older artifact than the newest, which cannot serve, has been accepted.
    OlderDetected(ReleaseId),
    /// The launch failed for a reason outside the release: it may succeed the next time.
    LaunchFailed(Generation),
    /// The readiness check succeeded.
    Ready(Generation),
    /// The readiness check did not succeed in time.
    NeverReady(Generation),
    /// The active instance has served too long for its end to be a rapid failure.
    Settled(Generation),
    /// The liveness check has failed as often in a row as counts.
    LivenessLost(Generation),
    /// The liveness check succeeds again.
    LivenessRecovered(Generation),
    /// The share of errors among its responses is higher than that of the release before, on trial
    /// or as a canary.
    TooManyErrors(Generation),
    /// The staged instance has passed all stages of its canary.
    CanaryPassed(Generation),
    /// The trial is over, or no standby can be kept for it.
    TrialEnded(Generation),
    /// The root process has ended, and its process tree with it.
    Exited(Generation),
    /// The sessions that began at the superseded instance are over.
    SessionsEnded(Generation),
    /// Nothing is in flight to the instance any more.
    Drained(Generation),
    /// The back-off is over.
    RetryDue,
    /// This release, which gave way to another one, is to be tried again.
    ReturnDue(ReleaseId),
    /// Another try of this refused release was requested.
    RetryRequested(ReleaseId),
    /// A new instance of the active release was requested.
    RestartRequested,
    /// The release is to be staged when it is ready.
    StageRequested(ReleaseId),
    /// The promotion of the staged release was requested.
    PromoteRequested,
    /// The end of the staged release was requested.
    AbortRequested,
    /// The time of the staged instance is over.
    StageExpired(Generation),
    /// A rollback was requested: to this release, or to the one before.
    RollbackRequested(Option<ReleaseId>),
    /// A pause was requested: new requests are to be held.
    PauseRequested,
    /// The pause has ended.
    PauseEnded,
    /// The sidecar shuts down: nothing is launched any more, and the active instance serves on.
    ShutdownRequested,
    /// The public port is closed: the active instance gets no more requests.
    PortClosed,
}

/// An instruction to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Starts an instance and checks its readiness.
    Launch(Generation, ReleaseId, Purpose),
    /// Routes new requests to the instance.
    Promote(Generation),
    /// Routes new requests that ask for it to the instance, and no others.
    Stage(Generation),
    /// Routes no more requests to the staged instance.
    Unstage(Generation),
    /// Reports that no release is staged.
    ReportNothingStaged,
    /// Routes new requests nowhere: they are held.
    Withdraw,
    /// Goes on routing requests of sessions that began at the superseded instance there; reports
    /// [`Event::SessionsEnded`] at their end.
    Pin(Generation),
    /// Reports the end of the last request in flight; evicts those that outlast the grace period.
    Drain(Generation),
    /// Cuts off what is in flight to the instance now.
    Evict(Generation),
    /// Keeps the instance on standby.
    Keep(Generation),
    /// Asks the instance to stop, and kills it if it does not.
    Stop(Generation),
    /// Remembers that this release, which ran as this instance if at all, is not to be tried again.
    Refuse(Option<Generation>, ReleaseId, RefusalCause),
    /// Reports [`Event::TrialEnded`] at the end of the instance's trial.
    BeginTrial(Generation),
    /// Reports [`Event::RetryDue`] after the back-off for this number of failures in a row.
    RetryAfter(u32),
    /// Reports that the release of this instance gives way to the second one after crashes.
    ReportGaveWay(Generation, ReleaseId, ReleaseId),
    /// Reports [`Event::ReturnDue`] for the release after a pause: it has given way so many times.
    ReturnAfter(ReleaseId, u32),
    /// Reports that there is no release to go back to.
    ReportNoRollbackTarget,
    /// Reports that the rollback to the first release was given up for the second one.
    ReportRollbackGivenUp(ReleaseId, Option<ReleaseId>),
    /// Reports the end of a restart.
    ReportRestart(RestartEnd),
    /// Holds new requests, even if an instance is routed.
    Pause,
    /// Ends the pause.
    Resume,
}

// === impl Lifecycle ===

impl Lifecycle {
    /// Creates a lifecycle without instances. The releases `good` served in an earlier run of this
    /// sidecar, the latest last.
    pub fn new(policy: Policy, good: Vec<ReleaseId>) -> Self {
        Self {
            policy,
            launched: 0,
            serving: Serving::Nothing,
            incoming: Incoming::None,
            draining: BTreeMap::new(),
            stopping: BTreeSet::new(),
            stopping_standby: None,
            staged: None,
            to_stage: None,
            wanted: None,
            has_past: !good.is_empty(),
            good,
            former: Vec::new(),
            refused: BTreeSet::new(),
            unproven: BTreeSet::new(),
            failures: 0,
            crashes: BTreeMap::new(),
            gave_way: None,
            to_restart: None,
            has_served: false,
            phase: Phase::Running,
        }
    }

    /// Marks a release as refused by an earlier run of this sidecar, or by a sibling.
    pub fn remember_refused(&mut self, release: ReleaseId) {
        self.good.retain(|good| *good != release);
        self.refused.insert(release);
    }

    /// Forgets the refusals of releases that are not `known` any more. When such a release comes
    /// again, the supervisor asks the memory anew: a retry may have been requested meanwhile.
    pub fn forget_refused(&mut self, known: impl Fn(&ReleaseId) -> bool) {
        self.refused.retain(known);
    }

    /// Marks a release as good because it serves elsewhere, unless one has served here.
    pub fn remember_good(&mut self, release: ReleaseId) {
        if self.good.is_empty() {
            self.good.push(release);
            self.has_past = true;
        }
    }

    /// Marks a release whose trial the end of an earlier run interrupted: a release that is known
    /// to be good serves first, if there is one.
    pub fn remember_unproven(&mut self, release: ReleaseId) {
        self.unproven.insert(release);
    }

    /// Decides by this policy from now on, except for `can_overlap`.
    pub fn change_policy(&mut self, policy: Policy) {
        let can_overlap = self.policy.can_overlap;
        self.policy = Policy {
            can_overlap,
            ..policy
        };
    }

    /// Decides what follows from `event`. Events of unknown generations change nothing.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let to = &mut actions;
        // Another rollback in its place is reported by its own command.
        let is_rollback = matches!(event, Event::RollbackRequested(_));
        let rollback = self.rollback_target().filter(|_| !is_rollback).cloned();
        match event {
            Event::Detected(release) => self.detected(&release, to),
            Event::NothingDetected => self.end_idleness(to),
            Event::OlderDetected(release) => self.older_detected(&release, to),
            Event::Ready(generation) => self.ready(generation, to),
            Event::NeverReady(generation) => self.never_ready(generation, to),
            Event::LaunchFailed(generation) => self.launch_failed(generation, to),
            Event::Settled(generation) => self.settled(generation),
            Event::LivenessLost(generation) => self.became_unhealthy(generation, to),
            Event::LivenessRecovered(generation) => self.recovered(generation),
            Event::TooManyErrors(generation) => self.too_many_errors(generation, to),
            Event::CanaryPassed(generation) => self.canary_passed(generation, to),
            Event::TrialEnded(generation) => {
                if self.on_trial() == Some(generation) {
                    self.end_trial(to);
                }
            }
            Event::Exited(generation) => self.exited(generation, to),
            Event::SessionsEnded(generation) => self.sessions_ended(generation, to),
            Event::Drained(generation) => self.drained(generation, to),
            Event::RetryDue => self.retry_due(to),
            Event::ReturnDue(release) => self.return_due(&release, to),
            Event::RetryRequested(release) => self.retry_requested(&release, to),
            Event::RestartRequested => self.restart_requested(),
            Event::StageRequested(release) => self.stage_requested(release),
            Event::PromoteRequested => self.promote_requested(to),
            Event::AbortRequested => self.abort(RefusalCause::Aborted, to),
            Event::StageExpired(generation) => self.stage_expired(generation, to),
            Event::RollbackRequested(release) => self.rollback_requested(release, to),
            Event::PauseRequested => self.pause(to),
            Event::PauseEnded => self.resume(to),
            Event::ShutdownRequested => self.shut_down(to),
            Event::PortClosed => self.port_closed(to),
        }
        if let Some(target) = rollback {
            self.report_given_up(target, to);
        }
        self.restart_if_due(to);
        self.launch_waiting(to);
        actions
    }

    /// Returns true after a shutdown request, once no instance is left.
    pub fn is_finished(&self) -> bool {
        self.is_shutting_down()
            && self.incoming.candidate().is_none()
            && self.serving.active().is_none()
            && self.staged.is_none()
            && self.draining.is_empty()
            && self.stopping.is_empty()
    }

    /// Returns true if the release has served, here or in an earlier run of this sidecar.
    pub fn is_good(&self, release: &ReleaseId) -> bool {
        self.good.contains(release)
    }

    /// Returns true if any instance was ever active.
    pub fn has_served(&self) -> bool {
        self.has_served
    }

    /// Returns true if this is the active instance.
    pub fn is_active(&self, generation: Generation) -> bool {
        let active = self.serving.active();
        active.is_some_and(|active| active.instance.generation == generation)
    }

    /// Returns true while new requests are held on request.
    pub fn is_paused(&self) -> bool {
        self.phase == Phase::Paused
    }

    /// Returns the active instance while it is on trial.
    pub fn on_trial(&self) -> Option<Generation> {
        let active = self.serving.active()?;
        let _spare = active.trial.as_ref()?;
        Some(active.instance.generation)
    }

    /// Returns the releases to go back to, the one that a rollback prefers last.
    pub fn earlier(&self) -> impl Iterator<Item = &ReleaseId> {
        let active = self.serving.active().map(|active| &active.instance.release);
        let all = self.former.iter().chain(&self.good);
        all.filter(move |release| Some(*release) != active)
    }

    /// Returns the releases that may be launched again: their private copies have to stay.
    pub fn needed(&self) -> impl Iterator<Item = &ReleaseId> {
        let standby = self.serving.standby().map(|standby| &standby.release);
        let draining = self.draining.values().map(|draining| &draining.release);
        [self.serving.release(), standby, self.incoming.release()]
            .into_iter()
            .flatten()
            .chain(draining)
            .chain(&self.wanted)
            .chain(self.staged.as_ref().map(|staged| &staged.release))
            .chain(self.gave_way.as_ref().map(|given| &given.release))
            .chain(&self.good)
            .chain(&self.former)
    }

    fn is_shutting_down(&self) -> bool {
        self.phase == Phase::ShuttingDown
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod giving_way_tests;
#[cfg(test)]
mod leaving_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod staging_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
