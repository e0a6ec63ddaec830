//! Steps of which decisions are made.

use super::state::Leaving;
use super::{Action, Active, Candidate, GOOD, Incoming, Instance, Lifecycle, Planned};
use super::{Purpose, RefusalCause, Serving, Spare};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    /// Plans the launch of another instance, as soon as it may run beside the others.
    pub(super) fn start(
        &mut self,
        release: ReleaseId,
        purpose: Purpose,
        actions: &mut Vec<Action>,
    ) {
        if self.is_shutting_down() {
            return;
        }
        self.abandon_incoming(actions);
        self.end_trial(actions);
        self.unproven.remove(&release);
        if !self.policy.can_overlap {
            self.displace_active(actions);
        }
        self.incoming = Incoming::WaitingForRoom(Planned { release, purpose });
    }

    fn displace_active(&mut self, actions: &mut Vec<Action>) {
        if let Some(active) = self.serving.take_active() {
            self.serving = Serving::Displaced(active.instance.release.clone());
            actions.push(Action::Withdraw);
            self.drain(active.instance, actions);
        }
    }

    /// Launches what awaits room, if there is room now.
    pub(super) fn launch_waiting(&mut self, actions: &mut Vec<Action>) {
        let has_room = if self.policy.can_overlap {
            self.serving.active().is_none() || self.stopping_standby.is_none()
        } else {
            self.draining.is_empty() && self.stopping.is_empty()
        };
        if !has_room {
            return;
        }
        if let Some(Planned { release, purpose }) = self.incoming.take_waiting() {
            self.launched += 1;
            let generation = Generation(self.launched);
            actions.push(Action::Launch(generation, release.clone(), purpose));
            let instance = Instance {
                generation,
                release,
            };
            self.incoming = Incoming::Candidate(Candidate { instance, purpose });
        }
    }

    pub(super) fn back_off(
        &mut self,
        release: ReleaseId,
        purpose: Purpose,
        actions: &mut Vec<Action>,
    ) {
        if !self.is_shutting_down() {
            self.incoming = Incoming::BackingOff(Planned { release, purpose });
            actions.push(Action::RetryAfter(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
    }

    pub(super) fn refuse(
        &mut self,
        generation: Option<Generation>,
        release: ReleaseId,
        cause: RefusalCause,
        actions: &mut Vec<Action>,
    ) {
        if self.good.contains(&release) {
            self.good.retain(|good| *good != release);
            self.former.push(release.clone());
            self.former.drain(..self.former.len().saturating_sub(GOOD));
        }
        self.crashes.remove(&release);
        self.forget_giving_way(&release);
        self.refused.insert(release.clone());
        self.end_sessions(|_, other| *other == release, actions);
        actions.push(Action::Refuse(generation, release, cause));
    }

    /// Gives up what starts; a launch that backs off stays.
    pub(super) fn abandon_start(&mut self, actions: &mut Vec<Action>) {
        if self.incoming.starting().is_some() {
            self.abandon_incoming(actions);
        }
    }

    /// Gives up what is on its way.
    pub(super) fn abandon_incoming(&mut self, actions: &mut Vec<Action>) {
        if let Incoming::Candidate(candidate) =
            std::mem::replace(&mut self.incoming, Incoming::None)
        {
            self.stop(candidate.instance.generation, actions);
        }
    }

    /// Ends the trial of the active instance, and stops the standby.
    pub(super) fn end_trial(&mut self, actions: &mut Vec<Action>) {
        let spare = self
            .serving
            .active_mut()
            .and_then(|active| active.trial.take());
        self.stop_standby(spare, actions);
    }

    pub(super) fn stop_standby(&mut self, spare: Option<Spare>, actions: &mut Vec<Action>) {
        if let Some(Spare::Standby(standby)) = spare {
            self.stopping_standby = Some(standby.generation);
            self.stop(standby.generation, actions);
        }
    }

    pub(super) fn stop(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.stopping.insert(generation);
        actions.push(Action::Stop(generation));
    }

    /// Makes the release the latest of those that served.
    pub(super) fn record_good(&mut self, release: &ReleaseId) {
        self.good.retain(|good| good != release);
        self.former.retain(|former| former != release);
        self.good.push(release.clone());
        self.good.drain(..self.good.len().saturating_sub(GOOD));
    }

    /// Returns the latest superseded instance of a `usable` release that could take the requests at
    /// once.
    pub(super) fn spare(&self, is_usable: impl Fn(&ReleaseId) -> bool) -> Option<Generation> {
        let standby = self.serving.standby();
        let standby = standby.map(|standby| (standby.generation, &standby.release));
        let draining = self.draining.iter().rev();
        let draining = draining
            .filter(|(_, draining)| draining.has_served && draining.leaving != Leaving::Evicted)
            .map(|(generation, draining)| (*generation, &draining.release));
        let mut spares = standby.into_iter().chain(draining);
        spares
            .find(|(_, release)| is_usable(release) && !self.refused.contains(*release))
            .map(|(generation, _)| generation)
    }

    /// Routes to a superseded instance again. Returns the instance that was active.
    pub(super) fn take_back(
        &mut self,
        spare: Generation,
        actions: &mut Vec<Action>,
    ) -> Option<Instance> {
        let (left, trial) = match self.serving.take_active() {
            Some(active) => (Some(active.instance), active.trial),
            None => (None, None),
        };
        let draining = self.draining.remove(&spare).map(|draining| Instance {
            generation: spare,
            release: draining.release,
        });
        let (instance, unused) = match (draining, trial) {
            (Some(draining), trial) => (Some(draining), trial),
            (None, Some(Spare::Standby(standby))) => (Some(standby), None),
            (None, trial) => (None, trial),
        };
        if let Some(instance) = instance {
            self.record_good(&instance.release);
            let is_staged = self.is_staged(&instance.release);
            self.serving = Serving::Active(Active::new(instance));
            actions.push(Action::Promote(spare));
            if is_staged {
                // Its release serves, so there is nothing to wait for.
                self.to_stage = None;
                self.leave_staged(actions);
            }
        }
        self.stop_standby(unused, actions);
        left
    }

    /// Falls back to what served last, if nothing serves and nothing is about to.
    pub(super) fn end_idleness(&mut self, actions: &mut Vec<Action>) {
        let is_idle = self.serving.active().is_none() && self.incoming == Incoming::None;
        if is_idle && let Some(good) = self.good.last().cloned() {
            self.approach(&good, actions);
        }
    }

    /// Returns true if an instance of the release is active.
    pub fn is_serving(&self, release: &ReleaseId) -> bool {
        let active = self.serving.active();
        active.is_some_and(|active| active.instance.release == *release)
    }

    pub(super) fn is_incoming(&self, release: &ReleaseId) -> bool {
        self.incoming.release() == Some(release)
    }
}
