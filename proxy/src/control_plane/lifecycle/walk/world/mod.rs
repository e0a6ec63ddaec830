//! A model of the processes that is independent of the lifecycle.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

mod feasible;
mod promises;
mod transfer;

/// The kinds of events that a walk includes.
#[derive(Clone, Copy)]
pub(super) enum Story {
    /// Deploys, crashes and the shutdown.
    Deploys,
    /// Liveness checks that fail, errors and ends of trials as well.
    Trials,
    /// Requests of every kind as well.
    Requests,
    /// Deploys, crashes, and releases that are staged.
    Stages,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    lifecycle: Lifecycle,
    alive: BTreeMap<Generation, Process>,
    routed: Option<Generation>,
    on_trial: Option<Generation>,
    staged: Option<Generation>,
    refused: BTreeSet<ReleaseId>,
    wanted: Option<ReleaseId>,
    retry_armed: bool,
    /// Release that rests until it is tried again.
    resting: Option<ReleaseId>,
    served: bool,
    paused: bool,
    shutdown: bool,
    closed: bool,
    /// Target of a rollback that has begun, until it is done, refused or reported as given up.
    rollback: Option<ReleaseId>,
    /// Active instance of which a restart was requested, until its end is reported.
    restart: Option<Generation>,
    /// True if the last event permits to route backwards.
    may_go_back: bool,
    /// True if the last event was a request for it: the only permission without auto-rollback.
    asked: bool,
    /// A seeded fault: the lifecycle takes what is pinned for what only finishes its requests.
    forgets_sessions: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    release: Option<ReleaseId>,
    ready: bool,
    failed: bool,
    settled: bool,
    unhealthy: bool,
    may_hold_requests: bool,
    draining: bool,
    pinned: bool,
    standby: bool,
    /// It is staged, or was and has not served since.
    only_staged: bool,
    evicted: bool,
    stopped: bool,
}

impl Process {
    fn is_starting(&self) -> bool {
        !self.ready && !self.failed && !self.stopped
    }
}

impl World {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            lifecycle: Lifecycle::new(policy, Vec::new()),
            alive: BTreeMap::new(),
            routed: None,
            on_trial: None,
            staged: None,
            refused: BTreeSet::new(),
            wanted: None,
            retry_armed: false,
            resting: None,
            served: false,
            paused: false,
            shutdown: false,
            closed: false,
            rollback: None,
            restart: None,
            may_go_back: false,
            asked: false,
            forgets_sessions: false,
        }
    }

    pub(super) fn that_forgets_sessions(policy: Policy) -> Self {
        Self {
            forgets_sessions: true,
            ..Self::new(policy)
        }
    }

    /// `a` has served in an earlier life, and `b` was on trial when that ended.
    pub(super) fn with_a_past(policy: Policy) -> Self {
        let mut lifecycle = Lifecycle::new(policy, vec![ReleaseId::new("a")]);
        lifecycle.remember_unproven(ReleaseId::new("b"));
        Self {
            lifecycle,
            ..Self::new(policy)
        }
    }

    fn policy(&self) -> Policy {
        self.lifecycle.policy
    }

    /// Returns true if a release rests until it is tried again.
    pub(super) fn has_resting(&self) -> bool {
        self.resting.is_some()
    }

    pub(super) fn has_staged(&self) -> bool {
        self.staged.is_some()
    }

    fn knows(&self, release: &ReleaseId) -> bool {
        self.lifecycle.needed().any(|needed| needed == release)
    }

    pub(super) fn step(&mut self, event: Event) {
        self.happen(&event);
        for action in self.lifecycle.on(event) {
            self.perform(action);
        }
        self.check();
    }

    fn happen(&mut self, event: &Event) {
        self.may_go_back = false;
        self.asked = false;
        match event {
            Event::LaunchFailed(generation) => {
                self.alive.remove(generation);
            }
            Event::Exited(generation) => {
                self.alive.remove(generation);
                self.may_go_back = self.routed == Some(*generation);
            }
            Event::Ready(generation) => self.process(*generation).ready = true,
            Event::NeverReady(generation) => {
                self.process(*generation).failed = true;
            }
            Event::Settled(generation) => self.process(*generation).settled = true,
            Event::LivenessLost(generation) => {
                self.process(*generation).unhealthy = true;
                self.may_go_back = self.on_trial == Some(*generation);
            }
            Event::LivenessRecovered(generation) => self.process(*generation).unhealthy = false,
            Event::TooManyErrors(_) => self.may_go_back = true,
            Event::TrialEnded(_) => self.on_trial = None,
            Event::Drained(generation) => {
                let process = self.process(*generation);
                // Nothing is in flight at a pinned one at the moment: a session may come back.
                if !process.pinned {
                    process.draining = false;
                    process.may_hold_requests = false;
                }
            }
            Event::SessionsEnded(_) => {}
            Event::RetryDue => self.retry_armed = false,
            Event::ReturnDue(_) => self.resting = None,
            Event::RollbackRequested(to) => {
                self.may_go_back = true;
                self.asked = true;
                self.rollback = None;
                // The timer may still run, for nothing.
                self.resting = None;
                if let Some(to) = to {
                    self.refused.remove(to);
                }
            }
            Event::RetryRequested(release) => {
                self.refused.remove(release);
            }
            Event::PromoteRequested | Event::CanaryPassed(_) => {
                self.may_go_back = true;
                self.asked = true;
            }
            Event::AbortRequested => self.asked = true,
            Event::RestartRequested if !self.shutdown => self.restart = self.routed,
            Event::RestartRequested => {}
            Event::ShutdownRequested => {
                self.shutdown = true;
                self.rollback = None;
                self.restart = None;
            }
            Event::PortClosed => self.closed = true,
            Event::Detected(release) => self.wanted = Some(release.clone()),
            Event::NothingDetected
            | Event::OlderDetected(_)
            | Event::StageRequested(_)
            | Event::StageExpired(_)
            | Event::PauseRequested
            | Event::PauseEnded => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch(generation, release, purpose) => {
                if purpose == Purpose::Rollback {
                    self.rollback = Some(release.clone());
                }
                self.launch(generation, release);
            }
            Action::Promote(generation) => self.promote(generation),
            Action::Withdraw => {
                self.routed = None;
                self.on_trial = None;
            }
            Action::Drain(generation) => {
                assert_ne!(self.routed, Some(generation), "drained while routed");
                let process = self.process(generation);
                process.draining = true;
                process.pinned = false;
            }
            Action::Pin(generation) => {
                assert_ne!(self.routed, Some(generation), "pinned while routed");
                assert!(self.policy().has_sessions, "pinned uninvited");
                let process = self.process(generation);
                process.draining = true;
                process.pinned = true;
                if self.forgets_sessions {
                    self.lifecycle.forget_sessions(generation);
                }
            }
            Action::Evict(generation) => {
                let process = self.process(generation);
                assert!(process.draining, "evicted what was not draining");
                assert!(!process.evicted, "evicted twice");
                process.evicted = true;
                process.pinned = false;
            }
            Action::Keep(generation) => {
                assert!(self.on_trial.is_some(), "kept without a trial");
                let standby = self.alive.values().any(|p| p.standby && !p.stopped);
                assert!(!standby, "two on standby");
                let process = self.process(generation);
                assert!(!process.draining && !process.stopped, "kept what is in use");
                process.standby = true;
            }
            Action::Stop(generation) => {
                assert_ne!(self.routed, Some(generation), "stopped while routed");
                let process = self.process(generation);
                assert!(!process.pinned, "stopped under a session");
                assert!(!process.may_hold_requests, "stopped under a request");
                assert!(!process.stopped, "stopped twice");
                process.stopped = true;
            }
            Action::Refuse(_, release, cause) => {
                // Another one serves, or is about to because it has served before.
                let serving = self.routed.and_then(|routed| self.alive.get(&routed));
                let serving = serving.and_then(|process| process.release.as_ref());
                assert_ne!(serving, Some(&release), "refused what serves");
                assert!(self.served, "refused {release} with nothing else");
                assert!(
                    self.asked || cause != RefusalCause::RolledBack || self.promoted_a_rollback(),
                    "rolled back though nobody asked"
                );
                self.rollback.take_if(|rollback| *rollback == release);
                self.refused.insert(release);
            }
            Action::ReportRollbackGivenUp(..) => self.rollback = None,
            Action::ReportRestart(_) => self.restart = None,
            Action::BeginTrial(generation) => {
                assert_eq!(self.routed, Some(generation), "bakes what does not serve");
                assert!(self.policy().has_trials, "bakes uninvited");
                self.on_trial = Some(generation);
            }
            Action::RetryAfter(_) => {
                assert!(!self.shutdown, "a retry during shutdown");
                self.retry_armed = true;
            }
            Action::ReportGaveWay(_, from, to) => {
                assert!(self.served && self.policy().may_go_back);
                assert_ne!(from, to, "gave way to itself");
                assert!(!self.refused.contains(&to), "gave way to a refused release");
            }
            Action::ReturnAfter(release, _) => {
                assert!(!self.shutdown, "a return during shutdown");
                self.resting = Some(release);
            }
            Action::Stage(generation) => {
                assert_eq!(self.staged, None, "two are staged");
                let process = self.process(generation);
                assert!(
                    process.ready && !process.stopped,
                    "staged what is not ready"
                );
                process.only_staged = true;
                process.may_hold_requests = true;
                self.staged = Some(generation);
            }
            Action::Unstage(generation) => assert_eq!(self.staged.take(), Some(generation)),
            Action::ReportNothingStaged => assert!(self.asked && self.staged.is_none()),
            Action::ReportNoRollbackTarget => assert!(self.asked),
            Action::Pause => {
                assert!(!self.paused && !self.shutdown);
                self.paused = true;
            }
            Action::Resume => {
                assert!(self.paused);
                self.paused = false;
            }
        }
    }

    fn launch(&mut self, generation: Generation, release: ReleaseId) {
        assert!(!self.shutdown, "launched during shutdown");
        let candidates = self.alive.values().filter(|p| p.is_starting()).count();
        assert_eq!(candidates, 0, "two candidates");
        for (other, process) in &self.alive {
            let was_standby = process.standby && self.routed != Some(*other);
            assert!(
                !was_standby || process.stopped,
                "launched beside a standby that has not been asked to stop"
            );
            assert!(
                !was_standby || self.routed.is_none(),
                "launched beside a standby while another instance serves"
            );
            assert!(
                self.policy().can_overlap,
                "launched beside {other}: it cannot run twice"
            );
        }
        let process = Process {
            release: Some(release),
            ..Process::default()
        };
        let reused = self.alive.insert(generation, process);
        assert_eq!(reused, None, "a generation was reused");
    }

    fn promote(&mut self, generation: Generation) {
        let may_go_back = self.may_go_back || !self.policy().can_overlap;
        let forwards = self.routed < Some(generation);
        let from = self.release_of(self.routed);
        let to = self.release_of(Some(generation));
        let by_itself = self.policy().may_go_back || self.asked || !self.policy().can_overlap;
        assert!(forwards || may_go_back, "routed backwards");
        assert!(
            forwards || by_itself || from.is_none() || from == to,
            "went back though nobody asked"
        );
        self.rollback
            .take_if(|rollback| Some(&*rollback) == to.as_ref());
        let asked = self.asked;
        self.staged.take_if(|staged| *staged == generation);
        let process = self.process(generation);
        assert!(
            !process.only_staged || asked,
            "promoted a staged one unasked"
        );
        process.only_staged = false;
        assert!(process.ready, "promoted before it was ready");
        assert!(!process.stopped, "promoted after it was stopped");
        assert!(
            !process.evicted || process.standby,
            "promoted after it was evicted"
        );
        process.may_hold_requests = true;
        process.draining = false;
        process.pinned = false;
        process.evicted = false;
        process.standby = false;
        self.refused.retain(|refused| Some(refused) != to.as_ref());
        self.routed = Some(generation);
        self.restart.take_if(|asked| generation > *asked);
        self.on_trial = None;
        self.served = true;
    }

    fn promoted_a_rollback(&self) -> bool {
        // Asked for earlier, and done now that the old release is ready again.
        self.routed.is_some()
    }

    fn release_of(&self, generation: Option<Generation>) -> Option<ReleaseId> {
        self.alive.get(&generation?)?.release.clone()
    }

    fn process(&mut self, generation: Generation) -> &mut Process {
        let process = self.alive.get_mut(&generation);
        process.unwrap_or_else(|| panic!("generation {generation} does not live"))
    }
}
