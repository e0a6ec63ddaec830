//! Decisions that follow from requests: through the files, or by ending the sidecar.

use super::{Action, Incoming, Lifecycle, Phase, Purpose, RefusalCause};
use crate::release::ReleaseId;

/// The end of a restart that was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartEnd {
    /// A newer instance serves.
    Done,
    /// Its instance did not become ready.
    Failed,
    /// A rollback to this release was requested.
    Superseded(ReleaseId),
}

impl Lifecycle {
    pub(super) fn retry_requested(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        self.refused.remove(release);
        self.forget_giving_way(release);
        if self.wants(release) {
            self.failures = 0;
            self.crashes.remove(release);
            self.approach(release, actions);
        } else if self.policy.can_overlap
            && self.serving.active().is_none()
            && !self.is_shutting_down()
        {
            // It may still drain.
            if let Some(spare) = self.spare(|spare| spare == release) {
                self.take_back(spare, actions);
            }
        }
    }

    /// Returns true if the release is the newest artifact.
    pub fn wants(&self, release: &ReleaseId) -> bool {
        self.wanted.as_ref() == Some(release)
    }

    /// Returns true if the newest artifact is refused, and nothing starts instead.
    pub fn has_refused_newest(&self) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|wanted| self.refused.contains(wanted))
            && self.incoming == Incoming::None
            && !self.is_shutting_down()
    }

    /// Plans a new instance in place of the active one. Without one, what starts is new anyway.
    pub(super) fn restart_requested(&mut self) {
        let active = self.serving.active();
        self.to_restart = active.map(|active| active.instance.generation);
    }

    /// Launches the instance that a restart asks for, once nothing else is on its way that could
    /// serve instead.
    pub(super) fn restart_if_due(&mut self, actions: &mut Vec<Action>) {
        let (Some(asked), Some(active)) = (self.to_restart, self.serving.active()) else {
            return;
        };
        if active.instance.generation > asked {
            self.to_restart = None;
            actions.push(Action::ReportRestart(RestartEnd::Done));
        } else if self.can_restart() {
            let release = active.instance.release.clone();
            self.start(release, Purpose::Restart, actions);
        }
    }

    /// Returns true if a restart request would launch a new instance at once.
    pub fn can_restart(&self) -> bool {
        self.serving.active().is_some()
            && self.incoming == Incoming::None
            && !self.is_shutting_down()
    }

    pub(super) fn rollback_requested(&mut self, to: Option<ReleaseId>, actions: &mut Vec<Action>) {
        if self.is_shutting_down() {
            return;
        }
        let Some(target) = to.or_else(|| self.before_the_latest()) else {
            return actions.push(Action::ReportNoRollbackTarget);
        };
        self.refused.remove(&target);
        self.to_stage = None;
        if !self.is_serving(&target) && self.to_restart.take().is_some() {
            let end = RestartEnd::Superseded(target.clone());
            actions.push(Action::ReportRestart(end));
        }
        self.leave_staged(actions);
        // The operator has decided: nothing is tried again unasked.
        self.gave_way = None;
        if self.incoming.starting() == Some(&target) {
            match &mut self.incoming {
                Incoming::Candidate(candidate) => candidate.purpose = Purpose::Rollback,
                Incoming::WaitingForRoom(planned) => planned.purpose = Purpose::Rollback,
                Incoming::None | Incoming::BackingOff(_) => {}
            }
        } else if self.is_serving(&target) {
            // The deploy that is on its way is what is taken back.
            self.refuse_newer(&target, actions);
            self.abandon_incoming(actions);
        } else if let Some(spare) = self.spare(|release| *release == target) {
            self.refuse_newer(&target, actions);
            self.go_back(spare, RefusalCause::RolledBack, actions);
        } else {
            self.start(target, Purpose::Rollback, actions);
        }
    }

    /// Returns the target of the rollback that is under way.
    pub fn rollback_target(&self) -> Option<&ReleaseId> {
        let (target, purpose) = self.incoming.planned()?;
        (purpose == Purpose::Rollback).then_some(target)
    }

    /// Reports the end of a rollback to `target` that is neither done nor refused.
    pub(super) fn report_given_up(&self, target: ReleaseId, actions: &mut Vec<Action>) {
        let is_over = self.rollback_target() == Some(&target)
            || self.is_serving(&target)
            || self.refused.contains(&target)
            || self.is_shutting_down();
        if !is_over {
            let instead = self.incoming.release().or_else(|| self.serving.release());
            actions.push(Action::ReportRollbackGivenUp(target, instead.cloned()));
        }
    }

    /// Returns the target of a rollback that names no release: that of the rollback that is under way;
    /// else the release that serves, or was displaced, if a deploy is on its way; else the release
    /// before it.
    pub fn before_the_latest(&self) -> Option<ReleaseId> {
        if let Some(target) = self.rollback_target() {
            return Some(target.clone());
        }
        let stays = self.serving.release();
        if stays.is_some() && self.staged.is_some() {
            return stays.cloned();
        }
        let incoming = self.incoming.release();
        if stays.is_some() && incoming.is_some_and(|release| Some(release) != stays) {
            return stays.cloned();
        }
        let latest = stays.or_else(|| self.good.last());
        let mut earlier = self.good.iter().rev();
        earlier.find(|good| Some(*good) != latest).cloned()
    }

    /// Refuses the newest artifact, which would come back as soon as it can. If it serves, it is
    /// refused when it has been superseded.
    pub(super) fn refuse_newer(&mut self, target: &ReleaseId, actions: &mut Vec<Action>) {
        let Some(wanted) = self.wanted.clone() else {
            return;
        };
        if wanted != *target && !self.is_serving(&wanted) && !self.refused.contains(&wanted) {
            let instance = self
                .incoming
                .candidate()
                .map(|candidate| &candidate.instance);
            let generation = instance
                .filter(|instance| instance.release == wanted)
                .map(|instance| instance.generation);
            self.refuse(generation, wanted, RefusalCause::RolledBack, actions);
        }
    }

    pub(super) fn pause(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Paused;
            actions.push(Action::Pause);
        }
    }

    pub(super) fn resume(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Paused {
            self.phase = Phase::Running;
            actions.push(Action::Resume);
        }
    }

    pub(super) fn shut_down(&mut self, actions: &mut Vec<Action>) {
        self.resume(actions);
        self.phase = Phase::ShuttingDown;
        self.leave_staged(actions);
        self.abandon_incoming(actions);
        self.end_sessions(|_, _| true, actions);
        self.end_trial(actions);
    }

    pub(super) fn port_closed(&mut self, actions: &mut Vec<Action>) {
        if let Some(active) = self.serving.take_active() {
            actions.push(Action::Withdraw);
            self.drain(active.instance, actions);
        }
    }
}
