//! What follows from facts.

use super::{Action, Candidate, Draining, Instance, Lifecycle, Next, Purpose, Verdict};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    pub(super) fn detected(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        let recovers = self.recovers();
        if self.wanted.as_ref() != Some(release) {
            self.failures = 0;
            self.crashes.clear();
        }
        self.wanted = Some(release.clone());
        if self.active.is_some() {
            self.retry.take_if(|retry| retry.release != *release);
        }
        let is_doubtful = self.refused.contains(release) || self.unproven.contains(release);
        if !is_doubtful {
            return match recovers && !self.is_coming_or_due(release) {
                // Nobody waits for what may never be ready. It has its trial as soon as the other
                // one serves.
                true => {}
                false => self.approach(release, actions),
            };
        }
        // It has failed before, or nobody knows. What was starting is out of date, if anything else
        // serves; else the last good one is sure to be better, and if there is none, it has to be
        // this one.
        match (&self.active, self.good.last().cloned()) {
            (Some(_), _) if !self.refused.contains(release) => self.approach(release, actions),
            (Some(active), _) => {
                let active = active.release.clone();
                self.approach(&active, actions);
            }
            (None, Some(good)) if !self.is_coming_or_due(&good) => self.approach(&good, actions),
            (None, Some(_)) => {}
            (None, None) => self.approach(release, actions),
        }
    }

    /// Whether nothing serves, and what served before is about to: it has not failed to since.
    fn recovers(&self) -> bool {
        let candidate = self.candidate.iter().map(|c| (&c.release, c.purpose));
        let due = [&self.next, &self.retry].into_iter().flatten();
        let mut coming = candidate.chain(due.map(|next| (&next.release, next.purpose)));
        self.active.is_none()
            && self.policy.overlap
            && self.failures <= 1
            && coming
                .any(|(release, purpose)| purpose == Purpose::Deploy && self.good.contains(release))
    }

    /// An earlier life of this sidecar may know what to run.
    pub(super) fn nothing_detected(&mut self, actions: &mut Vec<Action>) {
        let is_idle = self.active.is_none() && self.coming().is_none() && self.retry.is_none();
        if is_idle && let Some(good) = self.good.last().cloned() {
            self.approach(&good, actions);
        }
    }

    pub(super) fn ready(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) else {
            return;
        };
        let Candidate {
            release, purpose, ..
        } = candidate;
        self.is_good(&release);
        self.refused.remove(&release);
        self.retry = None;
        self.fallen = None;
        self.has_served = true;
        let promoted = Instance {
            generation,
            release: release.clone(),
        };
        actions.push(Action::Promote(generation));
        let superseded = self.active.replace(promoted);
        let made_room = self.made_room.take();
        if purpose == Purpose::Rollback {
            let instance = superseded.as_ref().map(|old| old.generation);
            let from = superseded
                .as_ref()
                .map(|old| &old.release)
                .or(made_room.as_ref());
            if let Some(from) = from.filter(|from| **from != release) {
                self.refuse(instance, from.clone(), Verdict::RolledBack, actions);
            }
            self.refuse_newer(&release, actions);
        }
        if let Some(superseded) = superseded {
            let is_trial = purpose == Purpose::Deploy && superseded.release != release;
            let spare = self.policy.bake && self.policy.overlap && is_trial;
            if spare {
                self.baking = Some(generation);
                actions.push(Action::Bake(generation));
            }
            self.drain(superseded, spare, actions);
        }
        // What just started may have been the fallback for a newer one that failed when there was
        // nothing else. Now that something serves, the newer one gets its fair trial.
        if let Some(wanted) = self.wanted.clone()
            && !self.refused.contains(&wanted)
        {
            self.approach(&wanted, actions);
        }
    }

    pub(super) fn never_ready(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        if let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) {
            self.stop(generation, actions);
            self.candidate_failed(candidate, actions);
        }
    }

    pub(super) fn launch_failed(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.stopping.remove(&generation);
        if let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) {
            let Candidate {
                release, purpose, ..
            } = candidate;
            let waits = self.wanted.clone();
            let waits = waits.filter(|wanted| *wanted != release);
            let waits = waits.filter(|wanted| !self.refused.contains(wanted));
            match waits.filter(|_| self.active.is_none() && purpose == Purpose::Deploy) {
                // What is wrong with the machine may be wrong for this one only, such as a folder.
                Some(wanted) => self.retry(deploy(wanted), actions),
                None => self.retry(Next { release, purpose }, actions),
            }
        }
    }

    pub(super) fn retry_due(&mut self, actions: &mut Vec<Action>) {
        let Some(Next { release, purpose }) = self.retry.take() else {
            return;
        };
        let is_same = self.serves(&release);
        let has_fallen = self.active.as_ref().map(|a| a.generation) == self.fallen.map(|f| f.0);
        match purpose {
            Purpose::Deploy => self.approach(&release, actions),
            Purpose::Restart if is_same => self.start(release, purpose, actions),
            Purpose::Rescue if is_same && has_fallen => self.start(release, purpose, actions),
            Purpose::Rollback if !is_same => self.start(release, purpose, actions),
            // What it was for is no more.
            Purpose::Restart | Purpose::Rescue | Purpose::Rollback => match self.wanted.clone() {
                Some(wanted) if !self.refused.contains(&wanted) => self.approach(&wanted, actions),
                _ if self.active.is_none() => self.approach(&release, actions),
                _ => {}
            },
        }
    }

    pub(super) fn drained(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let Some(Draining { release, spare, .. }) = self.draining.remove(&generation) else {
            return;
        };
        if spare {
            self.standby = Some(Instance {
                generation,
                release,
            });
            actions.push(Action::Keep(generation));
        } else {
            self.stop(generation, actions);
        }
    }

    pub(super) fn exited(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        self.draining.remove(&generation);
        self.stopping.remove(&generation);
        self.standby.take_if(|s| s.generation == generation);
        self.ending.take_if(|ending| *ending == generation);
        if let Some(candidate) = self.candidate.take_if(|c| c.generation == generation) {
            self.candidate_failed(candidate, actions);
        }
        if let Some(crashed) = self.active.take_if(|a| a.generation == generation) {
            self.active_crashed(crashed, actions);
        }
    }

    pub(super) fn settled(&mut self, generation: Generation) {
        if let Some(active) = self.active.as_ref().filter(|a| a.generation == generation) {
            self.failures = 0;
            self.crashes.remove(&active.release);
        }
    }

    fn active_crashed(&mut self, crashed: Instance, actions: &mut Vec<Action>) {
        self.fallen = None;
        let baked = self.baking == Some(crashed.generation);
        if self.shutting_down {
            return actions.push(Action::Withdraw);
        }
        let crashes = self.crashed(&crashed.release);
        let may_go_back = self.policy.auto_rollback;
        // It still runs, so it can serve: a rollback by rule.
        let spare = self.spare(|release| may_go_back || *release == crashed.release);
        match spare {
            Some(spare) => {
                self.take_back(spare, actions);
                if baked && !self.serves(&crashed.release) {
                    let Instance {
                        generation,
                        release,
                    } = crashed;
                    return self.refuse(Some(generation), release, Verdict::Failed, actions);
                }
            }
            None => {
                actions.push(Action::Withdraw);
                self.end_bake(actions);
            }
        }
        if self.coming().is_some() {
            return;
        }
        let before = self.good.iter().rev().find(|r| **r != crashed.release);
        match before.cloned() {
            // What came back instead is as good.
            _ if self.serves(&crashed.release) => self.return_to_wanted(actions),
            Some(before) if may_go_back && crashes >= self.policy.rapid_fails => {
                let Instance {
                    generation,
                    release,
                } = crashed;
                self.refuse(Some(generation), release, Verdict::Failed, actions);
                self.failures = 0;
                self.approach(&before, actions);
            }
            // Something newer is due anyway.
            _ if self.active.is_some() && self.retry.is_some() => {}
            _ => self.retry(deploy(crashed.release), actions),
        }
    }

    /// Counts a crash of what served. What has failed before its first one was something else, and
    /// it is not made to wait for that.
    fn crashed(&mut self, release: &ReleaseId) -> u32 {
        let crashes = self.crashes.entry(release.clone()).or_default();
        *crashes = crashes.saturating_add(1);
        if *crashes == 1 {
            self.failures = 0;
        }
        *crashes
    }

    fn candidate_failed(&mut self, candidate: Candidate, actions: &mut Vec<Action>) {
        let Candidate {
            generation,
            release,
            ..
        } = candidate;
        if self.shutting_down {
            return;
        }
        if let Some(active) = &self.active {
            if active.release != release {
                self.refuse(Some(generation), release, Verdict::Failed, actions);
            }
            self.rescue(actions);
            return self.return_to_wanted(actions);
        }
        match self.made_room.take() {
            // The one that had to go for it starts again.
            Some(before) if before != release => {
                self.refuse(Some(generation), release, Verdict::Failed, actions);
                self.approach(&before, actions);
            }
            _ => {
                // Nothing serves: the newest and the last good one take turns, for ever.
                let last_good = self.good.last().filter(|good| **good != release);
                let other = last_good.or(self.wanted.as_ref()).unwrap_or(&release);
                self.retry(deploy(other.clone()), actions);
            }
        }
    }

    /// What failed may have come before the newest artifact had its trial.
    fn return_to_wanted(&mut self, actions: &mut Vec<Action>) {
        if let Some(wanted) = self.wanted.clone()
            && self.coming().is_none()
            && self.retry.is_none()
            && !self.serves(&wanted)
            && !self.refused.contains(&wanted)
        {
            self.retry(deploy(wanted), actions);
        }
    }

    pub(super) fn live_fell(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        if self.shutting_down || !self.is_active(generation) {
            return;
        }
        self.fallen = Some((generation, false));
        self.spoiled(generation, Verdict::LiveCheckFell, actions);
        self.rescue(actions);
    }

    /// While it is on trial, one that is worse than the one before gives way to it.
    pub(super) fn spoiled(
        &mut self,
        generation: Generation,
        verdict: Verdict,
        actions: &mut Vec<Action>,
    ) {
        if self.shutting_down || !self.policy.auto_rollback || self.baking != Some(generation) {
            return;
        }
        if let Some(spare) = self.spare(|_| true) {
            self.go_back(spare, verdict, actions);
        }
    }

    /// The one whose live check fell stays routed; another one of its release may do better.
    fn rescue(&mut self, actions: &mut Vec<Action>) {
        if self.coming().is_some() || self.retry.is_some() || !self.policy.overlap {
            return;
        }
        let (Some(active), Some((fallen, tried))) = (&self.active, &mut self.fallen) else {
            return;
        };
        if active.generation == *fallen && !std::mem::replace(tried, true) {
            let release = active.release.clone();
            self.start(release, Purpose::Rescue, actions);
        }
    }

    /// The latest instance that could take the requests at once.
    pub(super) fn spare(&self, wanted: impl Fn(&ReleaseId) -> bool) -> Option<Generation> {
        let standby = self.standby.iter().map(|s| (s.generation, &s.release));
        let draining = self.draining.iter().rev();
        let draining = draining
            .filter(|(_, draining)| !draining.evicted)
            .map(|(generation, draining)| (*generation, &draining.release));
        let mut usable = standby.chain(draining);
        usable
            .find(|(_, release)| wanted(release) && !self.refused.contains(*release))
            .map(|(generation, _)| generation)
    }

    /// Routes to an instance that was superseded.
    pub(super) fn take_back(&mut self, spare: Generation, actions: &mut Vec<Action>) {
        self.baking = None;
        let standby = self.standby.take_if(|s| s.generation == spare);
        let draining = self.draining.remove(&spare).map(|draining| Instance {
            generation: spare,
            release: draining.release,
        });
        if let Some(instance) = standby.or(draining) {
            self.is_good(&instance.release);
            self.made_room = None;
            self.active = Some(instance);
            actions.push(Action::Promote(spare));
        }
        self.end_bake(actions);
    }

    /// Leaves the active one for one that was superseded.
    pub(super) fn go_back(
        &mut self,
        spare: Generation,
        verdict: Verdict,
        actions: &mut Vec<Action>,
    ) {
        let left = self.active.take();
        self.abandon_candidate(actions);
        self.retry = None;
        self.fallen = None;
        self.take_back(spare, actions);
        if let Some(left) = left {
            if !self.serves(&left.release) {
                let release = left.release.clone();
                self.refuse(Some(left.generation), release, verdict, actions);
            }
            self.drain(left, false, actions);
        }
    }

    /// Gets closer to `release` serving.
    pub(super) fn approach(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        if self.coming() == Some(release) {
            return;
        }
        if self.serves(release) {
            return self.abandon_candidate(actions);
        }
        if self.active.is_none()
            && let Some(spare) = self.spare(|spare| spare == release)
            && !self.shutting_down
        {
            // It makes room for what is not wanted any more.
            self.abandon_candidate(actions);
            return self.take_back(spare, actions);
        }
        self.start(release.clone(), Purpose::Deploy, actions);
    }
}

fn deploy(release: ReleaseId) -> Next {
    let purpose = Purpose::Deploy;
    Next { release, purpose }
}
