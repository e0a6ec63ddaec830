//! The crashes that count against a release, and those that do not.

use super::tests::{detected, launch, release, serving};
use super::*;

/// `v2` serves as generation 2 and `v1` still drains.
fn v2_after_v1() -> Lifecycle {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    lifecycle
}

/// `v2` has served for long, and `v1` is gone.
fn settled() -> Lifecycle {
    let mut lifecycle = v2_after_v1();
    lifecycle.on(Event::Drained(Generation(1)));
    lifecycle.on(Event::Exited(Generation(1)));
    lifecycle.on(Event::Settled(Generation(2)));
    lifecycle
}

fn gives_way(actions: &[Action]) -> bool {
    let mut actions = actions.iter();
    actions.any(|action| matches!(action, Action::ReportGaveWay(..)))
}

#[test]
fn what_cannot_be_launched_does_not_count_against_what_serves() {
    let mut lifecycle = settled();
    lifecycle.on(detected("v3"));
    for generation in 3..10 {
        lifecycle.on(Event::LaunchFailed(Generation(generation)));
        let again = lifecycle.on(Event::RetryDue);
        assert_eq!(again, [launch(generation + 1, "v3")]);
    }
    lifecycle.on(Event::LaunchFailed(Generation(10)));
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(2))),
        [Action::Withdraw, Action::RetryAfter(0)]
    );
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(11, "v2")]);
}

#[test]
fn a_launch_that_the_machine_refused_is_no_crash() {
    let mut lifecycle = settled();
    lifecycle.on(Event::Exited(Generation(2)));
    for generation in 3..8 {
        assert_eq!(lifecycle.on(Event::RetryDue), [launch(generation, "v2")]);
        lifecycle.on(Event::LaunchFailed(Generation(generation)));
    }
    for generation in 8..10 {
        lifecycle.on(Event::RetryDue);
        lifecycle.on(Event::Ready(Generation(generation)));
        let crashed = lifecycle.on(Event::Exited(Generation(generation)));
        assert_eq!(gives_way(&crashed), generation == 9, "the third crash");
    }
}

#[test]
fn the_crashes_of_one_release_do_not_count_against_another() {
    let mut lifecycle = v2_after_v1();
    for generation in [2, 3] {
        assert_eq!(
            lifecycle.on(Event::Exited(Generation(generation))).first(),
            Some(&Action::Promote(Generation(1)))
        );
        if generation == 2 {
            lifecycle.on(Event::RetryDue);
            lifecycle.on(Event::Ready(Generation(3)));
        }
    }
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(1))),
        [Action::Withdraw, Action::RetryAfter(0)]
    );
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(4, "v1")]);
    let mut needed = lifecycle.needed();
    assert!(needed.any(|needed| *needed == release("v2")));
}
