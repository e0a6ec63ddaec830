//! The policy: which instances there should be, and which of them is routed.
//!
//! ```text
//!             launch             ready               superseded           drained               exited
//!  (release) ───────▶ candidate ──────▶ active ──────────────────▶ draining ─────▶ stopping ───────▶ gone
//!                        │               ▲  ▲                         │  │ drained,    ▲
//!                        │               │  └── crashed, asked for ───┘  │ while the   │
//!                        │               │                              ▼ new one bakes│
//!                        │               └── crashed, fell, asked for ─ standby ───────┤
//!                        └── never ready, not wanted any more, shutdown ───────────────┘
//!  any state ── exited ──▶ gone
//! ```
//!
//! [`Lifecycle::on`] is a pure function of the events so far: no tokio, no I/O, no clock. The
//! supervisor reports facts and performs the actions, and nobody else launches, promotes, drains
//! or stops. So every order of events can be walked through in a test, and is.

use std::collections::{BTreeMap, BTreeSet};

use crate::release::{Generation, ReleaseId};

mod ask;
mod decide;
mod steps;

/// What decides, and all that it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    policy: Policy,
    launched: u64,
    candidate: Option<Candidate>,
    active: Option<Instance>,
    /// Superseded and idle, kept to go back to.
    standby: Option<Instance>,
    draining: BTreeMap<Generation, Draining>,
    stopping: BTreeSet<Generation>,
    /// What was on standby and stops: a candidate waits for it.
    ending: Option<Generation>,
    /// The active one, while it is on trial.
    baking: Option<Generation>,
    /// To be launched once what may not run beside it is gone.
    next: Option<Next>,
    /// To be launched when the back-off is over.
    retry: Option<Next>,
    /// What served until it had to make room for what comes next.
    made_room: Option<ReleaseId>,
    /// The active one whose live check fell, and whether it has had its second instance.
    fallen: Option<(Generation, bool)>,
    /// The newest artifact.
    wanted: Option<ReleaseId>,
    /// The releases that served, the latest last: the active one and the ones to go back to.
    good: Vec<ReleaseId>,
    refused: BTreeSet<ReleaseId>,
    /// On trial when an earlier life of this sidecar ended: nobody knows how that would have gone.
    unproven: BTreeSet<ReleaseId>,
    /// Crashes and failed starts since the last time that an instance settled: for the back-off.
    failures: u32,
    /// How often a release has crashed while it served, since an instance of it settled.
    crashes: BTreeMap<ReleaseId, u32>,
    has_served: bool,
    paused: bool,
    shutting_down: bool,
}

/// How many releases that served are remembered, the active one among them.
pub const GOOD: usize = 3;

/// What the operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The oldest of more draining instances than this is evicted.
    pub max_draining: usize,
    /// So many crashes before it settles, and a release is given up for the one before it.
    pub rapid_fails: u32,
    /// Whether two instances may run side by side.
    pub overlap: bool,
    /// Whether a superseded instance is kept on standby for a while.
    pub bake: bool,
    /// Whether to go back to another release without being asked.
    pub auto_rollback: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Instance {
    generation: Generation,
    release: ReleaseId,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Candidate {
    generation: Generation,
    release: ReleaseId,
    purpose: Purpose,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Draining {
    release: ReleaseId,
    evicted: bool,
    /// Goes on standby once it is drained.
    spare: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Next {
    release: ReleaseId,
    purpose: Purpose,
}

/// Why an instance is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// This release shall serve.
    Deploy,
    /// Somebody asked for a new instance of the release that serves.
    Restart,
    /// The live check of the active instance fell: perhaps another one of its release is better.
    Rescue,
    /// Somebody asked to go back to this release.
    Rollback,
}

/// Why a release is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It did not start, or did not stay up.
    Failed,
    /// Its live check fell while it was on trial.
    LiveCheckFell,
    /// It answered with more errors than the one before while it was on trial.
    TooManyErrors,
    /// Somebody asked to go back.
    RolledBack,
}

/// A fact that the supervisor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This is the newest whole artifact.
    Detected(ReleaseId),
    /// There is no artifact that could be launched.
    NothingDetected,
    /// The launch failed for a reason that is not the release's: it may work the next time.
    LaunchFailed(Generation),
    /// The health check succeeded.
    Ready(Generation),
    /// The health check did not succeed in time.
    NeverReady(Generation),
    /// The active instance has served for long enough not to be called a rapid failure.
    Settled(Generation),
    /// The live check has failed so often that it counts.
    LiveFell(Generation),
    /// The live check succeeds again.
    LiveRose(Generation),
    /// Of its answers more are errors than of the one's before.
    Spoiled(Generation),
    /// The trial of this one is over, or nothing can be kept for it.
    BakeOver(Generation),
    /// The root process is gone, and with it the tree.
    Exited(Generation),
    /// Nothing is in flight to it any more.
    Drained(Generation),
    /// The back-off is over.
    RetryDue,
    /// Somebody wants this refused release to be tried again.
    RetryAsked(ReleaseId),
    /// Somebody wants a new instance of the release that serves.
    RestartAsked,
    /// Somebody wants to go back: to this release, or to the one before.
    RollbackAsked(Option<ReleaseId>),
    /// Somebody wants new requests to be held.
    PauseAsked,
    /// They need not be held any more.
    PauseOver,
    /// The sidecar shall end: no more launches; what is active serves on.
    ShutdownRequested,
    /// The public port is closed: what is active gets no more requests.
    Closed,
}

/// What the supervisor shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start an instance and check its health.
    Launch(Generation, ReleaseId, Purpose),
    /// Route new requests to it.
    Promote(Generation),
    /// Route new requests nowhere: they are held.
    Withdraw,
    /// Report when nothing is in flight to it any more; evict what outlasts the grace period.
    Drain(Generation),
    /// Cut off what is in flight to it now.
    Evict(Generation),
    /// Keep it as it is, to go back to.
    Keep(Generation),
    /// End it, politely first.
    Stop(Generation),
    /// Remember that this release failed while another one served; and, if it has run, as which
    /// instance.
    Refuse(Option<Generation>, ReleaseId, Verdict),
    /// Report [`Event::BakeOver`] when its trial is over.
    Bake(Generation),
    /// Report [`Event::RetryDue`] after the back-off for so many failures in a row.
    RetryAfter(u32),
    /// There is no release to go back to: tell who asked.
    NothingToGoBackTo,
    /// Hold new requests, whatever is routed.
    Pause,
    /// Do so no more.
    Resume,
}

// === impl Lifecycle ===

impl Lifecycle {
    /// Nothing runs yet. `good` served before, the latest last, in an earlier life of this sidecar.
    pub fn new(policy: Policy, good: Vec<ReleaseId>) -> Self {
        Self {
            policy,
            launched: 0,
            candidate: None,
            active: None,
            standby: None,
            draining: BTreeMap::new(),
            stopping: BTreeSet::new(),
            ending: None,
            baking: None,
            next: None,
            retry: None,
            made_room: None,
            fallen: None,
            wanted: None,
            good,
            refused: BTreeSet::new(),
            unproven: BTreeSet::new(),
            failures: 0,
            crashes: BTreeMap::new(),
            has_served: false,
            paused: false,
            shutting_down: false,
        }
    }

    /// This release is refused from the start: an earlier life of this sidecar, or a sibling, found
    /// it bad.
    pub fn remember_refused(&mut self, release: ReleaseId) {
        self.good.retain(|good| *good != release);
        self.refused.insert(release);
    }

    /// Whether a release that is not `known` any more is refused is asked anew when it comes again:
    /// somebody may have wanted it to be tried, meanwhile.
    pub fn forget_refused(&mut self, known: impl Fn(&ReleaseId) -> bool) {
        self.refused.retain(known);
    }

    /// This release has shown elsewhere that it is good, and nothing has served here.
    pub fn remember_good(&mut self, release: ReleaseId) {
        if self.good.is_empty() {
            self.good.push(release);
        }
    }

    /// This release was on trial when an earlier life of this sidecar ended: what is known to be
    /// good serves first, if anything is.
    pub fn remember_unproven(&mut self, release: ReleaseId) {
        self.unproven.insert(release);
    }

    /// Decides by this from now on; whether two instances may run side by side stays.
    pub fn change(&mut self, policy: Policy) {
        let overlap = self.policy.overlap;
        self.policy = Policy { overlap, ..policy };
    }

    /// Decides what follows from `event`. Facts about generations long gone change nothing.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let to = &mut actions;
        match event {
            Event::Detected(release) => self.detected(&release, to),
            Event::NothingDetected => self.nothing_detected(to),
            Event::Ready(generation) => self.ready(generation, to),
            Event::NeverReady(generation) => self.never_ready(generation, to),
            Event::LaunchFailed(generation) => self.launch_failed(generation, to),
            Event::Settled(generation) => self.settled(generation),
            Event::LiveFell(generation) => self.live_fell(generation, to),
            Event::LiveRose(generation) => {
                self.fallen.take_if(|(fallen, _)| *fallen == generation);
            }
            Event::Spoiled(generation) => self.spoiled(generation, Verdict::TooManyErrors, to),
            Event::BakeOver(generation) => {
                if self.baking == Some(generation) {
                    self.end_bake(to);
                }
            }
            Event::Exited(generation) => self.exited(generation, to),
            Event::Drained(generation) => self.drained(generation, to),
            Event::RetryDue => self.retry_due(to),
            Event::RetryAsked(release) => self.retry_asked(&release, to),
            Event::RestartAsked => self.restart_asked(to),
            Event::RollbackAsked(release) => self.rollback_asked(release, to),
            Event::PauseAsked => self.pause(to),
            Event::PauseOver => self.resume(to),
            Event::ShutdownRequested => self.shut_down(to),
            Event::Closed => self.closed(to),
        }
        self.start_next(to);
        actions
    }

    /// Whether it was asked to shut down and no instance is left.
    pub fn is_finished(&self) -> bool {
        self.shutting_down
            && self.candidate.is_none()
            && self.active.is_none()
            && self.standby.is_none()
            && self.draining.is_empty()
            && self.stopping.is_empty()
    }

    /// Whether any instance was ever active.
    pub fn has_served(&self) -> bool {
        self.has_served
    }

    /// Whether this is the active instance.
    pub fn is_active(&self, generation: Generation) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.generation == generation)
    }

    /// Whether new requests are held because somebody asked for it.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The active instance, while it is on trial.
    pub fn baking(&self) -> Option<Generation> {
        self.baking
    }

    /// The releases to go back to, the latest last.
    pub fn earlier(&self) -> impl Iterator<Item = &ReleaseId> {
        let active = self.active.as_ref().map(|active| &active.release);
        self.good.iter().filter(move |good| Some(*good) != active)
    }

    /// The releases that may be launched again: their private copies have to stay.
    pub fn needed(&self) -> impl Iterator<Item = &ReleaseId> {
        let instances = [&self.active, &self.standby].into_iter().flatten();
        let coming = [&self.next, &self.retry].into_iter().flatten();
        instances
            .map(|instance| &instance.release)
            .chain(self.candidate.iter().map(|candidate| &candidate.release))
            .chain(self.draining.values().map(|draining| &draining.release))
            .chain(coming.map(|next| &next.release))
            .chain(&self.made_room)
            .chain(&self.wanted)
            .chain(&self.good)
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
