//! The way from a release that crashes again and again to the one before, and back.
//!
//! A request of any client may be what makes an instance crash. So such a release is not refused: it
//! rests while the one before serves, and is tried again after a pause that grows, unless an operator
//! rolls back.

use super::state::Fallback;
use super::{Action, Lifecycle};
use crate::release::{Generation, ReleaseId};

impl Lifecycle {
    /// Returns the number of crashes after which a release gives way. One that has given way before
    /// does so again at the first.
    pub(super) fn crash_limit(&self, release: &ReleaseId) -> u32 {
        if self.has_given_way(release) {
            1
        } else {
            self.policy.rapid_fails
        }
    }

    /// Returns true if the release may give way. While another one rests, what serves instead of it
    /// does not: the two would take turns without a pause.
    pub(super) fn may_fall_back(&self, release: &ReleaseId) -> bool {
        self.policy.may_go_back && (self.fallback.is_none() || self.has_given_way(release))
    }

    /// Returns true if the release has given way, and no instance of it has settled since.
    pub fn has_given_way(&self, release: &ReleaseId) -> bool {
        let fallback = self.fallback.as_ref();
        fallback.is_some_and(|fallback| fallback.release == *release)
    }

    /// Returns true if the release is not to be tried yet.
    pub(super) fn is_resting(&self, release: &ReleaseId) -> bool {
        let fallback = self.fallback.as_ref();
        fallback.is_some_and(|fallback| fallback.release == *release && fallback.is_resting)
    }

    /// Lets `before` serve instead of the release that has crashed too often.
    pub(super) fn fall_back(
        &mut self,
        generation: Generation,
        release: ReleaseId,
        before: &ReleaseId,
        actions: &mut Vec<Action>,
    ) {
        let count = self.fallback.take().map_or(0, |fallback| fallback.count);
        let count = count.saturating_add(1);
        self.fallback = Some(Fallback {
            release: release.clone(),
            count,
            is_resting: true,
        });
        self.crashes.remove(&release);
        self.failures = 0;
        let report = Action::ReportFallback(generation, release.clone(), before.clone());
        actions.push(report);
        actions.push(Action::ReturnAfter(release, count));
        self.approach(before, actions);
    }

    /// Tries a release again that has rested. What starts meanwhile goes first.
    pub(super) fn return_due(&mut self, release: &ReleaseId, actions: &mut Vec<Action>) {
        if !self.is_resting(release) || self.is_shutting_down() {
            return;
        }
        let is_busy = self.incoming.starting().is_some();
        if let Some(fallback) = &mut self.fallback {
            if is_busy {
                return actions.push(Action::ReturnAfter(release.clone(), fallback.count));
            }
            fallback.is_resting = false;
        }
        self.approach(release, actions);
    }

    /// Forgets that the release has given way: it has proved itself, or somebody decides about it.
    pub(super) fn forget_fallback(&mut self, release: &ReleaseId) {
        self.fallback
            .take_if(|fallback| fallback.release == *release);
    }
}
