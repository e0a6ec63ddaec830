//! Decisions that follow from facts.

use super::{Action, Active, Candidate, Health, Incoming, Instance, Lifecycle, Purpose};
use super::{RefusalCause, RestartEnd, Serving, Spare};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    pub(super) fn detected(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        let is_recovering = self.is_recovering();
        if self.wanted.as_ref() != Some(release) {
            self.failures = 0;
            self.crashes.clear();
            self.gave_way = None;
        }
        if !self.is_staged(release) {
            self.leave_staged(actions);
        }
        self.to_stage.take_if(|to_stage| to_stage != release);
        // Deployed again, it does not have to rest.
        self.forget_giving_way(release);
        self.wanted = Some(release.clone());
        let is_refused = self.refused.contains(release);
        // After a refused deploy, its pointer is put back to the release that a rollback leaves. Only
        // a release that can serve instead supersedes the rollback.
        if self.rollback_target().is_some()
            && (is_refused || self.serving.release() == Some(release))
        {
            return;
        }
        if self.serving.active().is_some() && !self.is_incoming(release) {
            self.incoming.take_backing_off();
        }
        let is_to_wait = self.serving.active().is_none() && self.is_to_stage(release);
        if !is_refused && !is_to_wait && !self.unproven.contains(release) {
            // While the last good release recovers, a new one does not replace it, as it may never
            // be ready. It starts as soon as the other one serves.
            if !is_recovering || self.is_incoming(release) {
                self.approach(release, actions);
            }
            return;
        }
        // The release is known to fail, its result is unknown, or it is to be staged. If an instance serves, a refused
        // release only cancels what was starting, which is out of date. If none does, the last good
        // release is the better choice; without one, it has to be this one.
        if let Some(active) = self.serving.active() {
            let target = if is_refused {
                active.instance.release.clone()
            } else {
                release.clone()
            };
            return self.approach(&target, actions);
        }
        match self.good.last().cloned() {
            Some(good) if !self.is_incoming(&good) => self.approach(&good, actions),
            Some(_) => {}
            None => self.approach(release, actions),
        }
    }

    /// Returns true if nothing serves, and a release that served before is about to, without a
    /// failed try so far.
    fn is_recovering(&self) -> bool {
        let planned = self.incoming.planned();
        self.serving.active().is_none()
            && self.policy.can_overlap
            && self.failures <= 1
            && planned.is_some_and(|(release, purpose)| {
                purpose == Purpose::Deploy && self.good.contains(release)
            })
    }

    /// Launches an older artifact while nothing has served: the newest one and it take turns.
    pub(super) fn older_detected(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        if self.has_served || self.is_shutting_down() {
            return;
        }
        self.record_good(release);
        if self.incoming.starting().is_none() {
            self.incoming.take_backing_off();
            self.approach(release, actions);
        }
    }

    pub(super) fn ready(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let Some(candidate) = self.incoming.take_candidate(generation) else {
            return;
        };
        if candidate.purpose == Purpose::Deploy && self.is_to_stage(&candidate.instance.release) {
            return self.stage(candidate.instance, actions);
        }
        self.serve(candidate, actions);
    }

    /// Lets a ready instance serve instead of the active one.
    pub(super) fn serve(&mut self, candidate: Candidate, actions: &mut Vec<Action>) {
        let Candidate { instance, purpose } = candidate;
        let generation = instance.generation;
        let release = instance.release.clone();
        self.record_good(&release);
        self.refused.remove(&release);
        self.has_served = true;
        if let Some(given) = self.gave_way.as_mut().filter(|it| it.release == release) {
            given.is_resting = false;
        }
        actions.push(Action::Promote(generation));
        let promoted = Serving::Active(Active::new(instance));
        let before = std::mem::replace(&mut self.serving, promoted);
        if purpose == Purpose::Rollback {
            let from = before.release().filter(|from| **from != release).cloned();
            if let Some(from) = from {
                let generation = before.active().map(|active| active.instance.generation);
                self.refuse(generation, from, RefusalCause::RolledBack, actions);
            }
            self.refuse_newer(&release, actions);
        }
        if let Serving::Active(superseded) = before {
            let from = &superseded.instance;
            let is_new = from.release != release && !self.has_given_way(&release);
            if purpose == Purpose::Deploy && is_new {
                self.begin_trial(generation, from.generation, actions);
            }
            self.supersede(superseded, actions);
        }
        // The promoted release may have been the fallback for a newer one that failed when nothing
        // else served. Now that something serves, the newer one gets a fair trial.
        if let Some(wanted) = self.wanted.clone()
            && !self.refused.contains(&wanted)
            && !self.is_resting(&wanted)
        {
            self.approach(&wanted, actions);
        }
    }

    fn begin_trial(
        &mut self,
        generation: Generation,
        superseded: Generation,
        actions: &mut Vec<Action>,
    ) {
        if self.policy.has_trials
            && self.policy.can_overlap
            && let Some(active) = self.serving.active_mut()
        {
            active.trial = Some(Spare::Draining(superseded));
            actions.push(Action::BeginTrial(generation));
        }
    }

    pub(super) fn never_ready(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        if let Some(candidate) = self.incoming.take_candidate(generation) {
            self.stop(generation, actions);
            self.candidate_failed(candidate, actions);
        }
    }

    pub(super) fn launch_failed(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.stopping.remove(&generation);
        let Some(candidate) = self.incoming.take_candidate(generation) else {
            return;
        };
        let release = candidate.instance.release;
        let other = self.wanted.clone().filter(|wanted| {
            self.serving.active().is_none()
                && candidate.purpose == Purpose::Deploy
                && *wanted != release
                && !self.is_staged(wanted)
                && !self.refused.contains(wanted)
        });
        match other {
            // The machine's problem may concern this release only, such as its folder.
            Some(wanted) => self.back_off(wanted, Purpose::Deploy, actions),
            None => self.back_off(release, candidate.purpose, actions),
        }
    }

    pub(super) fn retry_due(&mut self, actions: &mut Vec<Action>) {
        let Some(planned) = self.incoming.take_backing_off() else {
            return;
        };
        let (release, purpose) = (planned.release, planned.purpose);
        let is_serving = self.is_serving(&release);
        let active = self.serving.active();
        let is_unhealthy = active.is_some_and(|active| active.health != Health::Healthy);
        match purpose {
            Purpose::Deploy => self.approach(&release, actions),
            Purpose::Restart if is_serving => self.start(release, purpose, actions),
            Purpose::Rescue if is_serving && is_unhealthy => self.start(release, purpose, actions),
            Purpose::Rollback if !is_serving => self.start(release, purpose, actions),
            // The purpose of the launch has gone.
            Purpose::Restart | Purpose::Rescue | Purpose::Rollback => match self.wanted.clone() {
                Some(wanted)
                    if !self.refused.contains(&wanted)
                        && !self.is_resting(&wanted)
                        && !self.is_staged(&wanted) =>
                {
                    self.approach(&wanted, actions);
                }
                _ if self.serving.active().is_none() => self.approach(&release, actions),
                _ => {}
            },
        }
    }

    pub(super) fn exited(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.draining.remove(&generation);
        self.stopping.remove(&generation);
        self.stopping_standby
            .take_if(|standby| *standby == generation);
        if let Some(spare) = self.trial_mut()
            && spare.generation() == Some(generation)
        {
            *spare = Spare::Gone;
        }
        if let Some(candidate) = self.incoming.take_candidate(generation) {
            self.candidate_failed(candidate, actions);
        }
        self.staged_exited(generation, actions);
        if self.is_active(generation) {
            self.active_crashed(actions);
        }
    }

    pub(super) fn trial_mut(&mut self) -> Option<&mut Spare> {
        self.serving.active_mut()?.trial.as_mut()
    }

    pub(super) fn settled(&mut self, generation: Generation) {
        let active = self.serving.active();
        if let Some(active) = active.filter(|active| active.instance.generation == generation) {
            let release = active.instance.release.clone();
            self.failures = 0;
            self.crashes.remove(&release);
            self.forget_giving_way(&release);
        }
    }

    fn active_crashed(&mut self, actions: &mut Vec<Action>) {
        let Some(crashed) = self.serving.active() else {
            return;
        };
        let was_on_trial = crashed.trial.is_some();
        let Instance {
            generation,
            release,
        } = crashed.instance.clone();
        if self.is_shutting_down() {
            self.serving = Serving::Nothing;
            return actions.push(Action::Withdraw);
        }
        let crashes = self.count_crash(&release);
        let may_go_back = self.policy.may_go_back;
        // A superseded instance that still runs can serve at once.
        if let Some(spare) = self.spare(|spare| may_go_back || *spare == release) {
            self.take_back(spare, actions);
            if was_on_trial && !self.is_serving(&release) {
                return self.refuse(Some(generation), release, RefusalCause::Failed, actions);
            }
        } else {
            actions.push(Action::Withdraw);
            self.end_trial(actions);
            self.serving = Serving::Nothing;
        }
        if let Some(starting) = self.incoming.starting() {
            if !self.is_to_stage(starting) {
                return;
            }
            // It is not to serve: what has served comes first.
            self.abandon_incoming(actions);
        }
        let mut earlier = self.good.iter().rev();
        let before = earlier.find(|good| **good != release && !self.is_staged(good));
        match before.cloned() {
            // The next try of a rollback is due.
            _ if self.rollback_target().is_some() => {}
            // Another instance of the same release serves instead.
            _ if self.is_serving(&release) => self.return_to_wanted(actions),
            Some(before)
                if self.may_give_way(&release) && crashes >= self.crash_limit(&release) =>
            {
                self.give_way(generation, release, &before, actions);
            }
            // Something newer is due anyway.
            _ if self.serving.active().is_some() && self.incoming != Incoming::None => {}
            _ => self.back_off(release, Purpose::Deploy, actions),
        }
    }

    /// Counts a crash of the active release. The first one starts the back-off anew: failures
    /// before it were those of another launch.
    fn count_crash(&mut self, release: &ReleaseId) -> u32 {
        let crashes = self.crashes.entry(release.clone()).or_default();
        *crashes = crashes.saturating_add(1);
        if *crashes == 1 {
            self.failures = 0;
        }
        *crashes
    }

    pub(super) fn candidate_failed(&mut self, candidate: Candidate, actions: &mut Vec<Action>) {
        let Instance {
            generation,
            release,
        } = candidate.instance;
        if candidate.purpose == Purpose::Restart && self.to_restart.take().is_some() {
            actions.push(Action::ReportRestart(RestartEnd::Failed));
        }
        if self.is_shutting_down() {
            return;
        }
        if self.serving.active().is_some() {
            if !self.is_serving(&release) {
                self.refuse(Some(generation), release, RefusalCause::Failed, actions);
            }
            self.rescue(actions);
            return self.return_to_wanted(actions);
        }
        match self.serving.take_displaced() {
            Some(before) if before != release => {
                self.refuse(Some(generation), release, RefusalCause::Failed, actions);
                self.approach(&before, actions);
            }
            _ => {
                // Nothing serves: the newest and the last good release take turns, without end.
                let last_good = self.good.last().filter(|good| **good != release);
                let wanted = self
                    .wanted
                    .as_ref()
                    .filter(|wanted| !self.is_staged(wanted));
                let other = last_good.or(wanted).unwrap_or(&release);
                self.back_off(other.clone(), Purpose::Deploy, actions);
            }
        }
    }

    /// Plans the newest artifact again if what has failed was launched before its trial.
    fn return_to_wanted(&mut self, actions: &mut Vec<Action>) {
        if let Some(wanted) = self.wanted.clone()
            && self.incoming == Incoming::None
            && !self.is_serving(&wanted)
            && !self.is_staged(&wanted)
            && !self.refused.contains(&wanted)
            && !self.is_resting(&wanted)
        {
            self.back_off(wanted, Purpose::Deploy, actions);
        }
    }

    pub(super) fn became_unhealthy(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        if self.is_shutting_down() || !self.is_active(generation) {
            return;
        }
        if let Some(active) = self.serving.active_mut() {
            active.health = Health::Unhealthy { restarted: false };
        }
        self.fail_trial(generation, RefusalCause::LivenessLost, actions);
        self.rescue(actions);
    }

    pub(super) fn recovered(&mut self, generation: Generation) {
        if let Some(active) = self.serving.active_mut()
            && active.instance.generation == generation
        {
            active.health = Health::Healthy;
        }
    }

    /// Goes back to the superseded instance if this one is on trial.
    pub(super) fn fail_trial(
        &mut self,
        generation: Generation,
        cause: RefusalCause,
        actions: &mut Vec<Action>,
    ) {
        if self.is_shutting_down()
            || !self.policy.may_go_back
            || self.on_trial() != Some(generation)
        {
            return;
        }
        if let Some(spare) = self.spare(|_| true) {
            self.go_back(spare, cause, actions);
        }
    }

    /// Launches another instance of an unhealthy release, once. The unhealthy one stays routed.
    fn rescue(&mut self, actions: &mut Vec<Action>) {
        if self.incoming != Incoming::None || !self.policy.can_overlap {
            return;
        }
        if let Some(active) = self.serving.active_mut()
            && active.health == (Health::Unhealthy { restarted: false })
        {
            active.health = Health::Unhealthy { restarted: true };
            let release = active.instance.release.clone();
            self.start(release, Purpose::Rescue, actions);
        }
    }

    /// Leaves the active instance for one that was superseded.
    pub(super) fn go_back(
        &mut self,
        spare: Generation,
        cause: RefusalCause,
        actions: &mut Vec<Action>,
    ) {
        self.abandon_incoming(actions);
        if let Some(left) = self.take_back(spare, actions) {
            if !self.is_serving(&left.release) {
                let release = left.release.clone();
                self.refuse(Some(left.generation), release, cause, actions);
            }
            self.drain(left, actions);
        }
    }

    /// Takes the next step towards `release` serving.
    pub(super) fn approach(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        if self.incoming.starting() == Some(release) || self.is_staged(release) {
            return;
        }
        if self.is_serving(release) {
            return self.abandon_start(actions);
        }
        if self.serving.active().is_none()
            && let Some(spare) = self.spare(|spare| spare == release)
            && !self.is_shutting_down()
        {
            // It was displaced by a release that is not wanted any more.
            self.abandon_start(actions);
            self.take_back(spare, actions);
            return;
        }
        self.start(release.clone(), Purpose::Deploy, actions);
    }
}
