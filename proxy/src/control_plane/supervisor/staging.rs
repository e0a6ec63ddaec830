//! The staged instance: the route of those who ask for it, and its end.

use std::time::{Duration, SystemTime};

use super::instances::InstanceState;
use super::journal::Change;
use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::lifecycle::Event;
use crate::deployment::canary::CanaryPlan;
use crate::deployment::desired::StageCommand;
use crate::process::Launch;
use crate::release::{Digest, Generation, ReleaseId};
use crate::router::Preview;

/// Time beyond its stages after which a canary is given up that nobody has asked for: it got too few
/// responses.
const PATIENCE: Duration = Duration::from_secs(3600);

impl<L: Launch> Supervisor<L> {
    /// Takes over which content is to be staged. It may have been detected already.
    pub(super) fn stage_later(&mut self, stage: StageCommand) {
        let digest = Digest::parse(&stage.digest).ok();
        let known = digest.and_then(|digest| self.releases.with_digest(digest));
        self.to_stage = Some(stage);
        if let Some(id) = known {
            // It may wait already: this is another token then, and a later end.
            let staged = self.instances.staged();
            if let Some(generation) = staged.filter(|(_, release)| **release == id).map(|it| it.0) {
                self.stage(generation);
            }
            self.on(Event::StageRequested(id));
        }
    }

    /// Reports that a release is to be staged, before it is reported itself.
    pub(super) fn announce_stage(&mut self, id: &ReleaseId, digest: Digest) {
        if self.is_to_stage(digest) || self.settings.canary.is_some() {
            self.on(Event::StageRequested(id.clone()));
        }
    }

    pub(super) fn is_to_stage(&self, digest: Digest) -> bool {
        let stage = self.to_stage.as_ref();
        stage.is_some_and(|stage| stage.digest == digest.to_string())
    }

    pub(super) fn promote_staged(&mut self) {
        self.to_stage = None;
        self.on(Event::PromoteRequested);
    }

    pub(super) fn abort_staged(&mut self) {
        self.to_stage = None;
        self.on(Event::AbortRequested);
    }

    pub(super) fn report_nothing_staged(&mut self) {
        self.reject_command("no release is staged".to_owned());
    }

    pub(super) fn stage(&mut self, generation: Generation) {
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        let digest = self.releases.digest_of(&instance.release);
        let asked = self.to_stage.as_ref().filter(|it| it.digest == digest);
        let plan = match asked {
            Some(stage) => stage.canary.clone(),
            None => self.settings.canary.clone(),
        };
        let Some(address) = instance.address else {
            return;
        };
        let from = instance.enter(InstanceState::Staged);
        let upstream = instance.route(generation, address, &self.messages);
        let token = asked.map(|stage| stage.token.as_str());
        let preview = Preview::new(upstream, token, 0.0);
        let testers = preview.testers();
        self.router.stage(preview);
        let patience = || PATIENCE + plan.as_ref().map_or(Duration::ZERO, CanaryPlan::time);
        let left = asked.map_or_else(patience, |stage| stage.remaining(SystemTime::now()));
        let expired = Message::Lifecycle(Event::StageExpired(generation));
        self.stage_end = Timer::send_after(left, &self.messages, expired);
        self.journal.status.staged_until_ms = Some((SystemTime::now() + left).into());
        let change = (Some(from), Some(InstanceState::Staged));
        self.journal
            .log_change(generation, &instance.release, change, &Change::Staged);
        self.canary = None;
        if let Some(plan) = plan {
            self.begin_canary(generation, plan, testers);
        }
    }

    /// Ends the route to the staged instance, which is not to serve, or has ended.
    pub(super) fn unstage(&mut self, generation: Generation) {
        self.router.unstage(generation);
        self.stage_end = Timer::default();
        self.journal.status.staged_until_ms = None;
        self.journal.record_abandoned(generation);
    }
}
