//! Instances that an earlier process of the sidecar left.

use std::collections::BTreeMap;

use super::{Action, Active, GaveWay, Incoming, Instance, Lifecycle, Purpose, Serving};
use crate::release::{Generation, ReleaseId};

/// The part of the state of a lifecycle at rest that is told neither by the memory, nor by the active
/// instance, nor by what is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LifecycleRecord {
    /// The newest artifact, unless it is on its way to serve: then it is detected anew.
    wanted: Option<ReleaseId>,
    failures: u32,
    crashes: BTreeMap<ReleaseId, u32>,
    gave_way: Option<GaveWay>,
}

impl Lifecycle {
    /// Returns true if an instance serves as it should, and no other is there or on its way.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        let active = self.serving.active();
        active.is_some_and(|it| it.trial.is_none() && it.health == super::Health::Healthy)
            && self.incoming == Incoming::None
            && self.draining.is_empty()
            && self.stopping.is_empty()
            && self.staged.is_none()
            && self.to_stage.is_none()
            && self.to_restart.is_none()
            && self.phase == super::Phase::Running
    }

    /// Returns true if the command of somebody is to be tried again after a failure: another process
    /// would not know of that.
    pub fn has_command_to_retry(&self) -> bool {
        let Incoming::BackingOff(planned) = &self.incoming else {
            return false;
        };
        matches!(planned.purpose, Purpose::Restart | Purpose::Rollback)
    }

    /// Returns what [`Lifecycle::restore`] needs.
    pub fn record(&self) -> LifecycleRecord {
        let is_at_rest = self.incoming == Incoming::None && self.staged.is_none();
        LifecycleRecord {
            wanted: self.wanted.clone().filter(|_| is_at_rest),
            failures: self.failures,
            crashes: self.crashes.clone(),
            gave_way: self.gave_way.clone(),
        }
    }

    /// Goes on from a record. The newest artifact in it need not be detected again.
    pub fn restore(&mut self, record: LifecycleRecord) -> Vec<Action> {
        let LifecycleRecord {
            wanted,
            failures,
            crashes,
            gave_way,
        } = record;
        self.wanted = wanted;
        self.failures = failures;
        self.crashes = crashes;
        self.gave_way = gave_way;
        let resting = self.gave_way.iter().filter(|given| given.is_resting);
        let pause = |given: &GaveWay| Action::ReturnAfter(given.release.clone(), given.count);
        resting.map(pause).collect()
    }

    /// Returns the newest artifact.
    pub fn wanted(&self) -> Option<&ReleaseId> {
        self.wanted.as_ref()
    }

    /// Marks releases as refused that served in an earlier run of this sidecar, the latest last.
    pub fn remember_former(&mut self, releases: Vec<ReleaseId>) {
        self.refused.extend(releases.iter().cloned());
        self.former = releases;
    }

    /// Goes on with an active instance. Nothing has happened so far.
    pub fn adopt_active(&mut self, generation: Generation, release: ReleaseId) {
        self.record_good(&release);
        self.has_served = true;
        self.serving = Serving::Active(Active::new(Instance {
            generation,
            release,
        }));
        self.skip_launches(Some(generation));
    }

    /// Awaits the end of an instance that is asked to stop.
    pub fn adopt_stopping(&mut self, generation: Generation) {
        self.stopping.insert(generation);
        self.skip_launches(Some(generation));
    }

    /// Gives later launches higher numbers than this one.
    pub fn skip_launches(&mut self, latest: Option<Generation>) {
        self.launched = latest.map_or(self.launched, |latest| self.launched.max(latest.0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{detected, launch, release};
    use super::super::{Action, Event, Policy};
    use super::*;

    fn lifecycle(can_overlap: bool) -> Lifecycle {
        let policy = Policy {
            max_draining: 2,
            rapid_fails: 3,
            can_overlap,
            has_trials: false,
            may_go_back: true,
            has_sessions: false,
        };
        Lifecycle::new(policy, Vec::new())
    }

    #[test]
    fn the_release_of_an_adopted_instance_is_not_launched_again_and_a_newer_one_is() {
        let mut lifecycle = lifecycle(true);
        lifecycle.adopt_active(Generation(7), release("v1"));
        lifecycle.adopt_stopping(Generation(8));
        assert_eq!(lifecycle.on(detected("v1")), []);
        assert_eq!(lifecycle.on(detected("v2")), [launch(9, "v2")]);
        let promoted = lifecycle.on(Event::Ready(Generation(9)));
        assert!(
            promoted.contains(&Action::Promote(Generation(9))),
            "{promoted:?}"
        );
        assert!(
            promoted.contains(&Action::Drain(Generation(7))),
            "{promoted:?}"
        );
    }

    #[test]
    fn a_launch_that_needs_room_awaits_the_end_of_adopted_instances() {
        let mut lifecycle = lifecycle(false);
        lifecycle.adopt_stopping(Generation(3));
        assert_eq!(lifecycle.on(detected("v1")), []);
        let ended = lifecycle.on(Event::Exited(Generation(3)));
        assert_eq!(ended, [launch(4, "v1")]);
    }

    #[test]
    fn an_adopted_instance_that_crashes_is_launched_again() {
        let mut lifecycle = lifecycle(true);
        lifecycle.adopt_active(Generation(1), release("v1"));
        let crashed = lifecycle.on(Event::Exited(Generation(1)));
        assert_eq!(crashed, [Action::Withdraw, Action::RetryAfter(0)]);
        assert_eq!(lifecycle.on(Event::RetryDue), [launch(2, "v1")]);
    }
}
