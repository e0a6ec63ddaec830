//! The next step of a staged roll-out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::deployment::rollout::Rollout;

/// The state of a sidecar in a roll-out, or of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// It does not run the artifact.
    Waits,
    /// It starts the artifact.
    Starts,
    /// It serves with the artifact.
    Runs,
    /// It has refused the artifact, or died while it started.
    Failed,
}

/// The sidecars that take part: all that live, and those that died while they started the artifact.
pub type Members = BTreeMap<Arc<str>, MemberState>;

/// The next step of a roll-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until a sidecar changes its state.
    Wait,
    /// Let the first sidecars serve for a while.
    Bake,
    /// Permit these sidecars to run the artifact too.
    Name(BTreeSet<Arc<str>>),
    /// Return to what was deployed before, with all sidecars.
    GoBack,
    /// End the roll-out: all sidecars run the artifact.
    Complete,
}

/// Returns the next step of `rollout`. `has_baked` is true when the first sidecars have served for
/// long enough.
pub fn next(rollout: &Rollout, members: &Members, has_baked: bool) -> Next {
    let count = |is_so: &dyn Fn(&str, MemberState) -> bool| {
        let members = members.iter();
        members.filter(|(id, state)| is_so(id, **state)).count()
    };
    let may = |id: &str| rollout.may.contains(id);
    if count(&|_, state| state == MemberState::Failed) > rollout.tolerate {
        return Next::GoBack;
    }
    let is_due = |state| matches!(state, MemberState::Waits | MemberState::Starts);
    let started = count(&|id, state| may(id) && is_due(state));
    let mut waiting = members
        .iter()
        .filter(|(id, state)| !may(id) && is_due(**state))
        .map(|(id, _)| Arc::clone(id))
        .peekable();
    if waiting.peek().is_none() {
        let is_complete = started == 0 && count(&|_, state| state == MemberState::Runs) > 0;
        return if is_complete {
            Next::Complete
        } else {
            Next::Wait
        };
    }
    if rollout.stopped {
        return Next::Wait;
    }
    let limit = rollout.at_most.of(members.len()).saturating_sub(started);
    let runs = count(&|_, state| state == MemberState::Runs);
    let room = if runs < rollout.first {
        limit.min(rollout.first.saturating_sub(runs + started))
    } else if has_baked {
        limit
    } else {
        return Next::Bake;
    };
    let named: BTreeSet<_> = waiting.take(room).collect();
    if named.is_empty() {
        Next::Wait
    } else {
        Next::Name(named)
    }
}

#[cfg(test)]
mod tests {
    use super::MemberState::{Failed, Runs, Starts, Waits};
    use super::*;
    use crate::deployment::rollout::AtMost;

    /// A roll-out on its way, with four sidecars, of which some may be away.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Scene {
        may: BTreeSet<Arc<str>>,
        members: Members,
        has_baked: bool,
    }

    const IDS: [&str; 4] = ["a", "b", "c", "d"];

    fn rollout(
        scene: &Scene,
        (first, at_most, tolerate, stopped): (usize, usize, usize, bool),
    ) -> Rollout {
        Rollout {
            may: scene.may.iter().map(|id| id.to_string()).collect(),
            at_most: AtMost::Count(at_most),
            first,
            tolerate,
            stopped,
            ..Rollout::default()
        }
    }

    /// Returns what can happen to the sidecars next. One that leaves comes back as another.
    fn happenings(scene: &Scene) -> Vec<Scene> {
        let mut after = Vec::new();
        for id in IDS.map(Arc::from) {
            let states = match scene.members.get(&id) {
                None => vec![Some(Waits)],
                Some(Waits) if scene.may.contains(&id) => vec![Some(Starts), None],
                Some(Waits) => vec![None],
                Some(Starts) => vec![Some(Runs), Some(Failed), None],
                Some(Runs) => vec![Some(Failed), None],
                Some(Failed) => vec![None],
            };
            for state in states {
                let mut scene = scene.clone();
                match state {
                    Some(state) => scene.members.insert(Arc::clone(&id), state),
                    None => {
                        scene.may.remove(&id);
                        scene.members.remove(&id)
                    }
                };
                after.push(scene);
            }
        }
        after
    }

    /// Walks every order of happenings and steps, and returns the number of scenes.
    fn walk(policy: (usize, usize, usize, bool)) -> usize {
        let start = Scene {
            may: BTreeSet::new(),
            members: IDS.iter().map(|id| (Arc::from(*id), Waits)).collect(),
            has_baked: policy.0 == 0,
        };
        let (first, at_most, tolerate, stopped) = policy;
        let mut known = BTreeSet::from([start.clone()]);
        let mut open = vec![start];
        while let Some(scene) = open.pop() {
            let failed = scene
                .members
                .values()
                .filter(|state| **state == Failed)
                .count();
            let mut after = happenings(&scene);
            let step = next(&rollout(&scene, policy), &scene.members, scene.has_baked);
            assert_eq!(step == Next::GoBack, failed > tolerate, "{scene:?}");
            match step {
                // All return: the walk of this roll-out ends.
                Next::GoBack => continue,
                Next::Complete => {
                    let is_over = |state: &MemberState| matches!(state, Runs | Failed);
                    assert!(scene.members.values().all(is_over), "{scene:?}");
                    continue;
                }
                Next::Bake => {
                    assert!(!scene.has_baked && !stopped, "{scene:?}");
                    let has_baked = true;
                    after.push(Scene { has_baked, ..scene });
                }
                Next::Name(named) => {
                    assert!(!stopped, "{scene:?}");
                    let mut scene = scene;
                    scene.may.extend(named.iter().cloned());
                    let is_due =
                        |id: &&Arc<str>| matches!(scene.members.get(*id), Some(Waits | Starts));
                    let due = scene.may.iter().filter(is_due).count();
                    assert!(due <= at_most, "{scene:?}");
                    let runs = scene.members.values().filter(|state| **state == Runs);
                    let runs = runs.count();
                    let is_first = runs + due <= first;
                    assert!(is_first || scene.has_baked && runs >= first, "{scene:?}");
                    after.push(scene);
                }
                Next::Wait => {
                    // Something else has to happen first, or somebody has stopped it.
                    let moves = |id: &Arc<str>| {
                        scene.may.contains(id)
                            && matches!(scene.members.get(id), Some(Waits | Starts))
                    };
                    let is_moving = scene.members.keys().any(moves);
                    let is_idle = !scene.members.values().any(|state| *state == Runs);
                    assert!(stopped || is_moving || is_idle, "{scene:?}");
                }
            }
            for scene in after {
                if known.insert(scene.clone()) {
                    open.push(scene);
                }
            }
        }
        known.len()
    }

    #[test]
    fn every_order_of_answers_stays_within_the_limits() {
        let mut scenes = 0;
        for first in 0..=2 {
            for at_most in 1..=3 {
                for tolerate in 0..=1 {
                    scenes += walk((first, at_most, tolerate, false));
                }
            }
        }
        scenes += walk((1, 2, 0, true));
        assert!(scenes > 5_000, "{scenes}");
    }

    #[test]
    fn what_nobody_runs_is_not_complete() {
        let none = Members::new();
        assert_eq!(next(&Rollout::default(), &none, true), Next::Wait);
    }
}
