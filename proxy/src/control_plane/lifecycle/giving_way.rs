//! The way from a release that crashes again and again to the one before, and back.
//!
//! A request of any client may be what makes an instance crash. So such a release is not refused: it
//! rests while the one before serves, and is tried again after a pause that grows, unless an operator
//! rolls back.

use super::state::GaveWay;
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
    pub(super) fn may_give_way(&self, release: &ReleaseId) -> bool {
        self.policy.may_go_back && (self.gave_way.is_none() || self.has_given_way(release))
    }

    /// Returns true if the release has given way, and no instance of it has settled since.
    pub fn has_given_way(&self, release: &ReleaseId) -> bool {
        let given = self.gave_way.as_ref();
        given.is_some_and(|given| given.release == *release)
    }

    /// Returns true if the release is not to be tried yet.
    pub(super) fn is_resting(&self, release: &ReleaseId) -> bool {
        let given = self.gave_way.as_ref();
        given.is_some_and(|given| given.release == *release && given.is_resting)
    }

    /// Lets `before` serve instead of the release that has crashed too often.
    pub(super) fn give_way(
        &mut self,
        generation: Generation,
        release: ReleaseId,
        before: &ReleaseId,
        actions: &mut Vec<Action>,
    ) {
        let count = self.gave_way.take().map_or(0, |given| given.count);
        let count = count.saturating_add(1);
        self.gave_way = Some(GaveWay {
            release: release.clone(),
            count,
            is_resting: true,
        });
        self.crashes.remove(&release);
        self.failures = 0;
        let report = Action::ReportGaveWay(generation, release.clone(), before.clone());
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
        if let Some(given) = &mut self.gave_way {
            if is_busy {
                return actions.push(Action::ReturnAfter(release.clone(), given.count));
            }
            given.is_resting = false;
        }
        self.approach(release, actions);
    }

    /// Forgets that the release has given way: it has proved itself, or somebody decides about it.
    pub(super) fn forget_giving_way(&mut self, release: &ReleaseId) {
        self.gave_way.take_if(|given| given.release == *release);
    }
}
