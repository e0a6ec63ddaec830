//! What follows when somebody asks for something: through the files, or by ending the sidecar.

use super::{Action, Lifecycle, Purpose, Verdict};
use crate::release::ReleaseId;

impl Lifecycle {
    pub(super) fn retry_asked(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        self.refused.remove(release);
        if self.wanted.as_ref() == Some(release) {
            self.failures = 0;
            self.crashes.remove(release);
            self.approach(release, actions);
        } else if self.policy.overlap && self.active.is_none() && !self.shutting_down {
            // Perhaps it still drains.
            if let Some(spare) = self.spare(|spare| spare == release) {
                self.take_back(spare, actions);
            }
        }
    }

    /// A new instance comes anyway when one is starting, or when none serves.
    pub(super) fn restart_asked(&mut self, actions: &mut Vec<Action>) {
        if let Some(active) = self.active.as_ref().filter(|_| self.can_restart()) {
            let release = active.release.clone();
            self.start(release, Purpose::Restart, actions);
        }
    }

    /// Whether somebody who asks for a new instance gets one for it.
    pub fn can_restart(&self) -> bool {
        self.active.is_some()
            && self.coming().is_none()
            && self.retry.is_none()
            && !self.shutting_down
    }

    pub(super) fn rollback_asked(&mut self, to: Option<ReleaseId>, actions: &mut Vec<Action>) {
        if self.shutting_down {
            return;
        }
        let Some(target) = to.or_else(|| self.before_the_latest()) else {
            return actions.push(Action::NothingToGoBackTo);
        };
        self.refused.remove(&target);
        if self.coming() == Some(&target) {
            let candidate = self.candidate.as_mut().map(|c| &mut c.purpose);
            let next = self.next.as_mut().map(|next| &mut next.purpose);
            if let Some(purpose) = candidate.or(next) {
                *purpose = Purpose::Rollback;
            }
        } else if self.serves(&target) {
            // What is on its way is what there is to take back.
            self.refuse_newer(&target, actions);
            self.abandon_candidate(actions);
            self.retry = None;
        } else if let Some(spare) = self.spare(|release| *release == target) {
            self.refuse_newer(&target, actions);
            self.go_back(spare, Verdict::RolledBack, actions);
        } else {
            self.start(target, Purpose::Rollback, actions);
        }
    }

    /// Where a rollback goes that names no release. A deploy that is on its way is taken back by
    /// staying, or by what made room for it; else it is the release before.
    pub fn before_the_latest(&self) -> Option<ReleaseId> {
        let active = self.active.as_ref().map(|active| &active.release);
        let stays = active.or(self.made_room.as_ref());
        let due = self.retry.as_ref().map(|retry| &retry.release);
        let on_its_way = self.coming().or(due);
        if stays.is_some() && on_its_way.is_some_and(|release| Some(release) != stays) {
            return stays.cloned();
        }
        let latest = stays.or_else(|| self.good.last());
        let mut earlier = self.good.iter().rev();
        earlier.find(|good| Some(*good) != latest).cloned()
    }

    /// The newest artifact would else come back as soon as it can. The one that serves now is
    /// refused when it has been superseded.
    pub(super) fn refuse_newer(&mut self, target: &ReleaseId, actions: &mut Vec<Action>) {
        let Some(wanted) = self.wanted.clone() else {
            return;
        };
        if wanted != *target && !self.serves(&wanted) && !self.refused.contains(&wanted) {
            let candidate = self.candidate.as_ref().filter(|c| c.release == wanted);
            let generation = candidate.map(|candidate| candidate.generation);
            self.refuse(generation, wanted, Verdict::RolledBack, actions);
        }
    }

    pub(super) fn pause(&mut self, actions: &mut Vec<Action>) {
        if !self.paused && !self.shutting_down {
            self.paused = true;
            actions.push(Action::Pause);
        }
    }

    pub(super) fn resume(&mut self, actions: &mut Vec<Action>) {
        if self.paused {
            self.paused = false;
            actions.push(Action::Resume);
        }
    }

    pub(super) fn shut_down(&mut self, actions: &mut Vec<Action>) {
        self.shutting_down = true;
        self.retry = None;
        self.resume(actions);
        self.abandon_candidate(actions);
        self.end_bake(actions);
    }

    pub(super) fn closed(&mut self, actions: &mut Vec<Action>) {
        if let Some(active) = self.active.take() {
            actions.push(Action::Withdraw);
            self.drain(active, false, actions);
        }
    }
}
