//! A release that is ready and waits for somebody to let it serve.
//!
//! It is neither routed nor a way back: only a request promotes it. Beside it, what serves goes on as
//! if it were not there, through crashes, restarts and rescues.

use super::state::Candidate;
use super::{Action, Incoming, Instance, Lifecycle, Purpose, RefusalCause};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    pub(super) fn stage_requested(&mut self, release: ReleaseId) {
        if !self.is_serving(&release) {
            self.to_stage = Some(release);
        }
    }

    /// Returns true if the release is not to serve before a request, and another one, which served
    /// last, can. Otherwise there is nothing that it could wait beside.
    pub(super) fn is_to_stage(&self, release: &ReleaseId) -> bool {
        self.to_stage.as_ref() == Some(release)
            && self.policy.can_overlap
            && (self.has_served || self.has_past)
            && self.good.last().is_some_and(|latest| latest != release)
    }

    pub(super) fn is_staged(&self, release: &ReleaseId) -> bool {
        let staged = self.staged.as_ref();
        staged.is_some_and(|staged| staged.release == *release)
    }

    pub(super) fn stage(&mut self, instance: Instance, actions: &mut Vec<Action>) {
        actions.push(Action::Stage(instance.generation));
        self.staged = Some(instance);
        self.end_idleness(actions);
    }

    pub(super) fn promote_requested(&mut self, actions: &mut Vec<Action>) {
        if let Some(instance) = self.staged.take() {
            self.to_stage = None;
            self.abandon_incoming(actions);
            let purpose = Purpose::Deploy;
            self.serve(Candidate { instance, purpose }, actions);
        } else if self.starts_to_stage().is_some() {
            // It is promoted as soon as it is ready.
            self.to_stage = None;
        } else {
            actions.push(Action::ReportNothingStaged);
        }
    }

    pub(super) fn canary_passed(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        if self.is_staged_as(generation) {
            self.promote_requested(actions);
        }
    }

    pub(super) fn too_many_errors(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let cause = RefusalCause::TooManyErrors;
        if self.is_staged_as(generation) {
            self.abort(cause, actions);
        } else {
            self.fail_trial(generation, cause, actions);
        }
    }

    /// Gives up what is staged, or starts to be.
    pub(super) fn abort(&mut self, cause: RefusalCause, actions: &mut Vec<Action>) {
        // With nothing that has served, it is not refused.
        let starts = self.starts_to_stage().filter(|_| self.has_served);
        let starts = starts.cloned();
        if let Some(staged) = self.staged.clone() {
            self.leave_staged(actions);
            let (generation, release) = (Some(staged.generation), staged.release);
            self.refuse(generation, release, cause, actions);
        } else if let Some(release) = starts {
            let candidate = self.incoming.candidate();
            let generation = candidate.map(|candidate| candidate.instance.generation);
            self.abandon_incoming(actions);
            self.refuse(generation, release, cause, actions);
        } else {
            actions.push(Action::ReportNothingStaged);
        }
        self.to_stage = None;
        self.end_idleness(actions);
    }

    pub(super) fn stage_expired(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        if self.is_staged_as(generation) {
            self.abort(RefusalCause::Expired, actions);
        }
    }

    /// Handles the end of the staged instance.
    pub(super) fn staged_exited(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let is_it = |staged: &mut Instance| staged.generation == generation;
        let Some(instance) = self.staged.take_if(is_it) else {
            return;
        };
        actions.push(Action::Unstage(generation));
        if self.serving.active().is_some() || self.incoming == Incoming::None {
            let purpose = Purpose::Deploy;
            self.candidate_failed(Candidate { instance, purpose }, actions);
        }
    }

    /// Gives up the staged instance: another release is wanted.
    pub(super) fn leave_staged(&mut self, actions: &mut Vec<Action>) {
        if let Some(staged) = self.staged.take() {
            let generation = staged.generation;
            actions.push(Action::Unstage(generation));
            self.drain(staged, actions);
            if let Some(draining) = self.draining.get_mut(&generation) {
                draining.has_served = false;
            }
        }
    }

    fn is_staged_as(&self, generation: Generation) -> bool {
        let staged = self.staged.as_ref();
        staged.is_some_and(|staged| staged.generation == generation)
    }

    /// Returns the release that starts and is to be staged.
    fn starts_to_stage(&self) -> Option<&ReleaseId> {
        let release = self.incoming.release()?;
        self.is_to_stage(release).then_some(release)
    }
}
