//! The steps that decisions are made of.

use super::{Action, Candidate, Draining, GOOD, Instance, Lifecycle, Next, Purpose, Verdict};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    /// Launches another instance, as soon as it may run beside the others.
    pub(super) fn start(
        &mut self,
        release: ReleaseId,
        purpose: Purpose,
        actions: &mut Vec<Action>,
    ) {
        if self.shutting_down {
            return;
        }
        self.abandon_candidate(actions);
        self.end_bake(actions);
        self.retry = None;
        self.unproven.remove(&release);
        if !self.policy.overlap
            && let Some(active) = self.active.take()
        {
            self.made_room = Some(active.release.clone());
            actions.push(Action::Withdraw);
            self.drain(active, false, actions);
        }
        self.next = Some(Next { release, purpose });
    }

    pub(super) fn start_next(&mut self, actions: &mut Vec<Action>) {
        let has_to_wait = match self.policy.overlap {
            true => self.active.is_some() && self.ending.is_some(),
            false => !self.draining.is_empty() || !self.stopping.is_empty(),
        };
        if has_to_wait {
            return;
        }
        if let Some(Next { release, purpose }) = self.next.take() {
            self.launched += 1;
            let generation = Generation(self.launched);
            actions.push(Action::Launch(generation, release.clone(), purpose));
            self.candidate = Some(Candidate {
                generation,
                release,
                purpose,
            });
        }
    }

    pub(super) fn retry(&mut self, next: Next, actions: &mut Vec<Action>) {
        if !self.shutting_down {
            self.retry = Some(next);
            actions.push(Action::RetryAfter(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
    }

    pub(super) fn refuse(
        &mut self,
        generation: Option<Generation>,
        release: ReleaseId,
        verdict: Verdict,
        actions: &mut Vec<Action>,
    ) {
        self.good.retain(|good| *good != release);
        self.crashes.remove(&release);
        self.refused.insert(release.clone());
        actions.push(Action::Refuse(generation, release, verdict));
    }

    pub(super) fn abandon_candidate(&mut self, actions: &mut Vec<Action>) {
        self.next = None;
        if let Some(candidate) = self.candidate.take() {
            self.stop(candidate.generation, actions);
        }
    }

    /// What is on standby, or would be, ends.
    pub(super) fn end_bake(&mut self, actions: &mut Vec<Action>) {
        self.baking = None;
        for draining in self.draining.values_mut() {
            draining.spare = false;
        }
        if let Some(standby) = self.standby.take() {
            self.ending = Some(standby.generation);
            self.stop(standby.generation, actions);
        }
    }

    pub(super) fn drain(&mut self, superseded: Instance, spare: bool, actions: &mut Vec<Action>) {
        let Instance {
            generation,
            release,
        } = superseded;
        let draining = Draining {
            release,
            evicted: false,
            spare,
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

    pub(super) fn stop(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.stopping.insert(generation);
        actions.push(Action::Stop(generation));
    }

    pub(super) fn is_good(&mut self, release: &ReleaseId) {
        self.good.retain(|good| good != release);
        self.good.push(release.clone());
        self.good.drain(..self.good.len().saturating_sub(GOOD));
    }

    /// The release that starts, or will when there is room.
    pub(super) fn coming(&self) -> Option<&ReleaseId> {
        let candidate = self.candidate.as_ref().map(|c| &c.release);
        candidate.or_else(|| self.next.as_ref().map(|next| &next.release))
    }

    pub(super) fn is_coming_or_due(&self, release: &ReleaseId) -> bool {
        let due = self.retry.as_ref().map(|retry| &retry.release);
        self.coming() == Some(release) || due == Some(release)
    }

    pub(super) fn serves(&self, release: &ReleaseId) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.release == *release)
    }
}
