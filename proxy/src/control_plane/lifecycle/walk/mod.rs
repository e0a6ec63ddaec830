//! A walk through every order of events, to a bounded depth, against a model of the world.
//!
//! The model knows the truth about the processes, independently of the lifecycle: which of them
//! live, which have passed their readiness check, which may still hold requests. After each step
//! it checks invariants 3 and 4 of the design.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod world;

use world::{Story, World};

const POLICY: Policy = Policy {
    max_draining: 1,
    rapid_fails: 2,
    can_overlap: true,
    has_trials: false,
    may_go_back: true,
    has_sessions: false,
};

/// Walks, and returns the number of different states.
fn walk(policy: Policy, story: Story, depth: usize) -> usize {
    walk_from(World::new(policy), story, depth)
}

fn walk_from(start: World, story: Story, depth: usize) -> usize {
    let mut seen = HashSet::new();
    let mut frontier = vec![(start, Vec::new())];
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, path) in &frontier {
            for event in world.feasible(story) {
                let mut path: Vec<Event> = path.clone();
                path.push(event.clone());
                let mut world = world.clone();
                let shown = PathOnPanic(&path);
                world.step(event);
                std::mem::forget(shown);
                if seen.insert(world.clone()) {
                    next.push((world, path));
                }
            }
        }
        frontier = next;
    }
    seen.len()
}

#[test]
fn every_order_of_deploys_and_crashes_keeps_the_promises() {
    let seen = walk(POLICY, Story::Deploys, 9);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_with_a_standby() {
    let policy = Policy {
        has_trials: true,
        ..POLICY
    };
    let seen = walk(policy, Story::Trials, 8);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_whatever_is_asked_for() {
    let policy = Policy {
        has_trials: true,
        ..POLICY
    };
    let seen = walk(policy, Story::Requests, 7);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_for_an_app_that_cannot_run_twice() {
    let policy = Policy {
        can_overlap: false,
        ..POLICY
    };
    let seen = walk(policy, Story::Requests, 9);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_when_nothing_goes_back_by_itself() {
    let policy = Policy {
        has_trials: true,
        may_go_back: false,
        ..POLICY
    };
    let seen = walk(policy, Story::Requests, 7);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_after_a_restart() {
    let seen = walk_from(World::with_a_past(POLICY), Story::Deploys, 9);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_after_a_release_has_given_way() {
    let [a, b] = ["a", "b"].map(|name| Event::Detected(ReleaseId::new(name)));
    let ready = |generation| Event::Ready(Generation(generation));
    let exited = |generation| Event::Exited(Generation(generation));
    let mut world = World::new(POLICY);
    let crashes = [ready(2), exited(2), Event::RetryDue, ready(3), exited(3)];
    for event in [a, ready(1), b].into_iter().chain(crashes) {
        world.step(event);
    }
    assert!(world.has_resting());
    let seen = walk_from(world, Story::Requests, 6);
    assert!(seen > 10_000, "only {seen} states were seen");
}

#[test]
fn every_order_keeps_them_while_a_release_is_staged() {
    let [a, b] = ["a", "b"].map(ReleaseId::new);
    let ready = |generation| Event::Ready(Generation(generation));
    let mut world = World::new(POLICY);
    let staged = [Event::Detected(a), ready(1), Event::Detected(b.clone())];
    let staged = staged
        .into_iter()
        .chain([Event::StageRequested(b), ready(2)]);
    for event in staged {
        world.step(event);
    }
    assert!(world.has_staged());
    let seen = walk_from(world, Story::Stages, 6);
    assert!(seen > 10_000, "only {seen} states were seen");
    let seen = walk(POLICY, Story::Stages, 7);
    assert!(seen > 10_000, "only {seen} states were seen");
}

/// Superseded instances are pinned, and up to two of them.
const SESSIONS: Policy = Policy {
    has_sessions: true,
    max_draining: 2,
    ..POLICY
};

#[test]
fn every_order_keeps_them_while_sessions_stay_at_superseded_instances() {
    let seen = walk(SESSIONS, Story::Deploys, 8);
    assert!(seen > 10_000, "only {seen} states were seen");
    let policy = Policy {
        has_trials: true,
        ..SESSIONS
    };
    let seen = walk(policy, Story::Requests, 6);
    assert!(seen > 3_000, "only {seen} states were seen");
}

#[test]
#[should_panic(expected = "stopped under a session")]
fn the_walk_finds_a_session_that_was_forgotten() {
    walk_from(World::that_forgets_sessions(SESSIONS), Story::Deploys, 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_next_process_decides_as_this_one_would_have(
        switches in any::<[bool; 4]>(),
        choices in vec(any::<u16>(), 4..60),
        later in vec(any::<u16>(), 1..30),
    ) {
        let [can_overlap, has_trials, may_go_back, has_sessions] = switches;
        let policy = Policy { can_overlap, has_trials, may_go_back, has_sessions, ..POLICY };
        let mut world = World::new(policy);
        for choice in choices {
            if let Some(mut next) = world.restored() {
                let mut world = world.clone();
                for choice in &later {
                    let event = one_of(world.feasible(Story::Requests), *choice);
                    world.step_with(&mut next, event);
                }
            }
            // A shutdown is the end.
            let mut feasible = world.feasible(Story::Requests);
            feasible.retain(|event| *event != Event::ShutdownRequested);
            world.step(one_of(feasible, choice));
        }
    }
}

fn one_of(mut events: Vec<Event>, choice: u16) -> Event {
    events.swap_remove(usize::from(choice) % events.len())
}

/// Prints the events that led to the state in which a check fails.
struct PathOnPanic<'a>(&'a [Event]);

impl Drop for PathOnPanic<'_> {
    fn drop(&mut self) {
        eprintln!("after {:?}", self.0);
    }
}
