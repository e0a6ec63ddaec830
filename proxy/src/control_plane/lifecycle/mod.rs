//! The policy: which instances there should be, and which of them is routed.
//!
//! ```text
//!             launch             ready               superseded           drained            exited
//!  (release) ───────▶ candidate ──────▶ active ──────────────────▶ draining ──────▶ stopping ───────▶ gone
//!                        │                ▲                            │               ▲
//!                        │                └────── the active crashed ──┘               │
//!                        └── never ready, not wanted any more, shutdown ───────────────┘
//!  any state ── exited ──▶ gone
//! ```
//!
//! [`Lifecycle::on`] is a pure function of the events so far: no tokio, no I/O, no clock. The
//! supervisor reports facts and performs the actions, and nobody else launches, promotes, drains
//! or stops. So every order of events can be walked through in a test, and is.

use std::collections::{BTreeMap, BTreeSet};

use crate::release::{Generation, ReleaseId};

/// What decides, and all that it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    policy: Policy,
    launched: u64,
    candidate: Option<Instance>,
    active: Option<Instance>,
    draining: BTreeMap<Generation, Draining>,
    stopping: BTreeSet<Generation>,
    /// The newest artifact.
    wanted: Option<ReleaseId>,
    /// The releases that served, the latest last: the active one and the ones to go back to.
    good: Vec<ReleaseId>,
    refused: BTreeSet<ReleaseId>,
    /// To be launched when the back-off is over.
    retry: Option<ReleaseId>,
    /// Crashes and failed starts since the last time that an instance settled.
    failures: u32,
    shutting_down: bool,
}

/// How many releases that served are remembered, the active one among them.
const GOOD: usize = 3;

/// What the operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The oldest of more draining instances than this is evicted.
    pub max_draining: usize,
    /// So many crashes before it settles, and a release is given up for the one before it.
    pub rapid_fails: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Instance {
    generation: Generation,
    release: ReleaseId,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Draining {
    release: ReleaseId,
    evicted: bool,
}

/// A fact that the supervisor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This is the newest whole artifact.
    Detected(ReleaseId),
    /// The launch failed for a reason that is not the release's: it may work the next time.
    LaunchFailed(Generation),
    /// The health check succeeded.
    Ready(Generation),
    /// The health check did not succeed in time.
    NeverReady(Generation),
    /// The active instance has served for long enough not to be called a rapid failure.
    Settled(Generation),
    /// The root process is gone, and with it the tree.
    Exited(Generation),
    /// Nothing is in flight to it any more.
    Drained(Generation),
    /// The back-off is over.
    RetryDue,
    /// The sidecar shall end: no more launches; what is active serves on.
    ShutdownRequested,
    /// The public port is closed: what is active gets no more requests.
    Closed,
}

/// What the supervisor shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start an instance and check its health.
    Launch(Generation, ReleaseId),
    /// Route new requests to it.
    Promote(Generation),
    /// Route new requests nowhere: they are held.
    Withdraw,
    /// Report when nothing is in flight to it any more; evict what outlasts the grace period.
    Drain(Generation),
    /// Cut off what is in flight to it now.
    Evict(Generation),
    /// End it, politely first.
    Stop(Generation),
    /// Remember that this release failed while another one served.
    Refuse(Generation, ReleaseId),
    /// Report [`Event::RetryDue`] after the back-off for so many failures in a row.
    RetryAfter(u32),
}

// === impl Lifecycle ===

impl Lifecycle {
    /// Nothing runs yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            launched: 0,
            candidate: None,
            active: None,
            draining: BTreeMap::new(),
            stopping: BTreeSet::new(),
            wanted: None,
            good: Vec::new(),
            refused: BTreeSet::new(),
            retry: None,
            failures: 0,
            shutting_down: false,
        }
    }

    /// Decides what follows from `event`. Facts about generations long gone change nothing.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Detected(release) => self.detected(&release, &mut actions),
            Event::Ready(generation) => self.ready(generation, &mut actions),
            Event::NeverReady(generation) => {
                if let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) {
                    self.stop(generation, &mut actions);
                    self.candidate_failed(candidate, &mut actions);
                }
            }
            Event::LaunchFailed(generation) => {
                self.stopping.remove(&generation);
                if let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) {
                    self.retry(candidate.release, &mut actions);
                }
            }
            Event::Settled(generation) => {
                if self.active.as_ref().map(|a| a.generation) == Some(generation) {
                    self.failures = 0;
                }
            }
            Event::Exited(generation) => self.exited(generation, &mut actions),
            Event::Drained(generation) => {
                if self.draining.remove(&generation).is_some() {
                    self.stop(generation, &mut actions);
                }
            }
            Event::RetryDue => {
                if let Some(release) = self.retry.take() {
                    self.approach(&release, &mut actions);
                }
            }
            Event::ShutdownRequested => {
                self.shutting_down = true;
                self.retry = None;
                self.abandon_candidate(&mut actions);
            }
            Event::Closed => {
                if let Some(active) = self.active.take() {
                    actions.push(Action::Withdraw);
                    self.drain(active, &mut actions);
                }
            }
        }
        actions
    }

    /// Whether it was asked to shut down and no instance is left.
    pub fn is_finished(&self) -> bool {
        self.shutting_down
            && self.candidate.is_none()
            && self.active.is_none()
            && self.draining.is_empty()
            && self.stopping.is_empty()
    }

    /// Whether any instance was ever active.
    pub fn has_served(&self) -> bool {
        !self.good.is_empty()
    }

    /// The releases that may be launched again: their private copies have to stay.
    pub fn needed(&self) -> impl Iterator<Item = &ReleaseId> {
        let instances = [&self.candidate, &self.active].into_iter().flatten();
        instances
            .map(|instance| &instance.release)
            .chain(self.draining.values().map(|draining| &draining.release))
            .chain(&self.wanted)
            .chain(&self.retry)
            .chain(&self.good)
    }

    fn detected(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        if self.wanted.as_ref() != Some(release) {
            self.failures = 0;
        }
        self.wanted = Some(release.clone());
        if self.active.is_some() && self.refused.contains(release) {
            // It has failed before, and something else serves. What was starting is out of date.
            self.abandon_candidate(actions);
        } else {
            self.approach(release, actions);
        }
    }

    fn ready(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let Some(promoted) = self.candidate.take_if(|c| c.generation == generation) else {
            return;
        };
        self.good.retain(|good| *good != promoted.release);
        self.good.push(promoted.release.clone());
        self.good.drain(..self.good.len().saturating_sub(GOOD));
        self.refused.remove(&promoted.release);
        self.retry = None;
        actions.push(Action::Promote(generation));
        if let Some(superseded) = self.active.replace(promoted) {
            self.drain(superseded, actions);
        }
        // What just started may have been the fallback for a newer one that failed when there was
        // nothing else. Now that something serves, the newer one gets its fair trial.
        if let Some(wanted) = self.wanted.clone()
            && !self.refused.contains(&wanted)
        {
            self.approach(&wanted, actions);
        }
    }

    fn exited(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.draining.remove(&generation);
        self.stopping.remove(&generation);
        if let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) {
            self.candidate_failed(candidate, actions);
        }
        if let Some(crashed) = self.active.take_if(|a| a.generation == generation) {
            self.active_crashed(crashed, actions);
        }
    }

    fn active_crashed(&mut self, crashed: Instance, actions: &mut Vec<Action>) {
        let back = match self.shutting_down {
            true => None,
            false => self.draining.iter().rev().find(|(_, d)| !d.evicted),
        };
        match back.map(|(generation, _)| *generation) {
            // It still runs, so it can serve: a rollback by rule.
            Some(generation) => {
                let draining = self.draining.remove(&generation);
                self.active = draining.map(|draining| Instance {
                    generation,
                    release: draining.release,
                });
                actions.push(Action::Promote(generation));
            }
            None => actions.push(Action::Withdraw),
        }
        if self.shutting_down || self.candidate.is_some() {
            return;
        }
        let before = self.good.iter().rev().find(|r| **r != crashed.release);
        match before.cloned() {
            Some(before) if self.failures + 1 >= self.policy.rapid_fails => {
                self.good.retain(|good| *good != crashed.release);
                self.refused.insert(crashed.release.clone());
                actions.push(Action::Refuse(crashed.generation, crashed.release));
                self.failures = 0;
                self.approach(&before, actions);
            }
            _ => self.retry(crashed.release, actions),
        }
    }

    fn candidate_failed(&mut self, candidate: Instance, actions: &mut Vec<Action>) {
        let Instance {
            generation,
            release,
        } = candidate;
        if self.shutting_down {
            return;
        }
        match &self.active {
            Some(active) if active.release == release => {}
            Some(_) => {
                self.refused.insert(release.clone());
                actions.push(Action::Refuse(generation, release));
            }
            None => {
                // Nothing serves: the newest and the last good one take turns, for ever.
                let last_good = self.good.last().filter(|good| **good != release);
                let other = last_good.or(self.wanted.as_ref()).unwrap_or(&release);
                self.retry(other.clone(), actions);
            }
        }
    }

    /// Gets closer to `release` serving.
    fn approach(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        if self.shutting_down {
            return;
        }
        if let Some(active) = &self.active
            && active.release == *release
        {
            return self.abandon_candidate(actions);
        }
        if let Some(candidate) = &self.candidate
            && candidate.release == *release
        {
            return;
        }
        self.abandon_candidate(actions);
        self.launched += 1;
        let generation = Generation(self.launched);
        self.retry = None;
        self.candidate = Some(Instance {
            generation,
            release: release.clone(),
        });
        actions.push(Action::Launch(generation, release.clone()));
    }

    fn retry(&mut self, release: ReleaseId, actions: &mut Vec<Action>) {
        if !self.shutting_down {
            self.retry = Some(release);
            actions.push(Action::RetryAfter(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
    }

    fn abandon_candidate(&mut self, actions: &mut Vec<Action>) {
        if let Some(candidate) = self.candidate.take() {
            self.stop(candidate.generation, actions);
        }
    }

    fn drain(&mut self, superseded: Instance, actions: &mut Vec<Action>) {
        let Instance {
            generation,
            release,
        } = superseded;
        let draining = Draining {
            release,
            evicted: false,
        };
        self.draining.insert(generation, draining);
        actions.push(Action::Drain(generation));
        let excess = self.draining.len().saturating_sub(self.policy.max_draining);
        for (generation, draining) in self.draining.iter_mut().take(excess) {
            if !std::mem::replace(&mut draining.evicted, true) {
                actions.push(Action::Evict(*generation));
            }
        }
    }

    fn stop(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.stopping.insert(generation);
        actions.push(Action::Stop(generation));
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
