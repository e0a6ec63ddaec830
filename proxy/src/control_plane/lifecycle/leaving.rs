//! The end of a superseded instance: first of the sessions that began there, then of its requests.

use super::state::Leaving;
use super::{Action, Active, Draining, Health, Instance, Lifecycle, Spare};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    /// Leaves the instance that another one has superseded. Clients whose sessions began there still
    /// reach it, unless it is unhealthy or its release is refused.
    pub(super) fn supersede(&mut self, superseded: Active, actions: &mut Vec<Action>) {
        let Active {
            instance, health, ..
        } = superseded;
        let is_pinned = self.policy.has_sessions
            && health == Health::Healthy
            && !self.refused.contains(&instance.release);
        let leaving = if is_pinned {
            Leaving::Pinned
        } else {
            Leaving::Finishing
        };
        self.leave(instance, leaving, actions);
    }

    /// Leaves an instance for good: it only finishes its requests.
    pub(super) fn drain(&mut self, instance: Instance, actions: &mut Vec<Action>) {
        self.leave(instance, Leaving::Finishing, actions);
    }

    fn leave(&mut self, instance: Instance, leaving: Leaving, actions: &mut Vec<Action>) {
        let Instance {
            generation,
            release,
        } = instance;
        let draining = Draining {
            release,
            leaving,
            has_served: true,
        };
        self.draining.insert(generation, draining);
        actions.push(if leaving == Leaving::Pinned {
            Action::Pin(generation)
        } else {
            Action::Drain(generation)
        });
        let excess = self.draining.len().saturating_sub(self.policy.max_draining);
        for (generation, draining) in self.draining.iter_mut().take(excess) {
            if std::mem::replace(&mut draining.leaving, Leaving::Evicted) != Leaving::Evicted {
                actions.push(Action::Evict(*generation));
            }
        }
    }

    pub(super) fn sessions_ended(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.end_sessions(|instance, _| instance == generation, actions);
    }

    /// Ends the sessions at the instances that are chosen.
    pub(super) fn end_sessions(
        &mut self,
        is_chosen: impl Fn(Generation, &ReleaseId) -> bool,
        actions: &mut Vec<Action>,
    ) {
        for (generation, draining) in &mut self.draining {
            if draining.leaving == Leaving::Pinned && is_chosen(*generation, &draining.release) {
                draining.leaving = Leaving::Finishing;
                actions.push(Action::Drain(*generation));
            }
        }
    }

    pub(super) fn drained(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let draining = self.draining.get(&generation);
        // A session may come back.
        if draining.is_none_or(|draining| draining.leaving == Leaving::Pinned) {
            return;
        }
        let Some(Draining { release, .. }) = self.draining.remove(&generation) else {
            return;
        };
        match self.trial_mut() {
            Some(spare) if *spare == Spare::Draining(generation) => {
                *spare = Spare::Standby(Instance {
                    generation,
                    release,
                });
                actions.push(Action::Keep(generation));
            }
            _ => self.stop(generation, actions),
        }
    }
}

#[cfg(test)]
impl Lifecycle {
    /// A fault for the walk to find.
    pub(super) fn forget_sessions(&mut self, generation: Generation) {
        if let Some(draining) = self.draining.get_mut(&generation) {
            draining.leaving = Leaving::Finishing;
        }
    }
}
