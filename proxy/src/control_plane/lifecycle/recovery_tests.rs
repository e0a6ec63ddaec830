//! The choice of a release when nothing serves: after a crash, and after a restart.

use super::tests::{POLICY, detected, launch, release, serving};
use super::*;

#[test]
fn a_deploy_while_what_crashed_starts_again_has_its_trial_when_that_serves() {
    let mut crashed = serving();
    crashed.on(Event::Exited(Generation(1)));
    // It is due, or starts already.
    let due = crashed.clone();
    assert_eq!(crashed.on(Event::RetryDue), [launch(2, "v1")]);
    for (mut lifecycle, starts) in [(due, true), (crashed, false)] {
        assert_eq!(lifecycle.on(detected("v2")), []);
        if starts {
            assert_eq!(lifecycle.on(Event::RetryDue), [launch(2, "v1")]);
        }
        assert_eq!(
            lifecycle.on(Event::Ready(Generation(2))),
            [Action::Promote(Generation(2)), launch(3, "v2")]
        );
    }
}

#[test]
fn a_deploy_does_not_wait_for_what_has_failed_to_start_again() {
    let mut lifecycle = serving();
    lifecycle.on(Event::Exited(Generation(1)));
    lifecycle.on(Event::RetryDue);
    lifecycle.on(detected("v2"));
    let failed = lifecycle.on(Event::Exited(Generation(2)));
    assert_eq!(failed, [Action::RetryAfter(0)]);
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v2")]);
    let mut lifecycle = serving();
    lifecycle.on(Event::Exited(Generation(1)));
    lifecycle.on(Event::RetryDue);
    lifecycle.on(Event::Exited(Generation(2)));
    assert_eq!(lifecycle.on(detected("v2")), [launch(3, "v2")]);
}

#[test]
fn a_deploy_does_not_wait_for_what_cannot_be_launched() {
    let mut lifecycle = serving();
    lifecycle.on(Event::Exited(Generation(1)));
    lifecycle.on(Event::RetryDue);
    lifecycle.on(detected("v2"));
    let failed = lifecycle.on(Event::LaunchFailed(Generation(2)));
    assert_eq!(failed, [Action::RetryAfter(0)]);
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v2")]);
}

#[test]
fn after_a_restart_what_was_on_trial_has_its_trial_when_the_last_good_one_serves() {
    let mut lifecycle = Lifecycle::new(POLICY, vec![release("v1")]);
    lifecycle.remember_unproven(release("v2"));
    assert_eq!(lifecycle.on(detected("v2")), [launch(1, "v1")]);
    assert_eq!(lifecycle.on(detected("v2")), []);
    assert_eq!(
        lifecycle.on(Event::Ready(Generation(1))),
        [Action::Promote(Generation(1)), launch(2, "v2")]
    );
}

#[test]
fn after_a_restart_what_was_on_trial_starts_when_there_is_nothing_better() {
    let mut lifecycle = Lifecycle::new(POLICY, Vec::new());
    lifecycle.remember_unproven(release("v1"));
    assert_eq!(lifecycle.on(detected("v1")), [launch(1, "v1")]);
    let mut lifecycle = Lifecycle::new(POLICY, vec![release("v1")]);
    lifecycle.remember_unproven(release("v2"));
    lifecycle.on(detected("v2"));
    let failed = lifecycle.on(Event::Exited(Generation(1)));
    assert_eq!(failed, [Action::RetryAfter(0)]);
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(2, "v2")]);
    assert_eq!(lifecycle.on(detected("v2")), []);
}

#[test]
fn after_a_restart_what_served_last_comes_before_what_was_refused() {
    let good = vec![release("v1"), release("v2")];
    let mut lifecycle = Lifecycle::new(POLICY, good.clone());
    lifecycle.remember_refused(release("v3"));
    assert_eq!(lifecycle.on(detected("v3")), [launch(1, "v2")]);
    let mut lifecycle = Lifecycle::new(POLICY, good.clone());
    assert_eq!(lifecycle.on(Event::NothingDetected), [launch(1, "v2")]);
    let mut lifecycle = Lifecycle::new(POLICY, good);
    assert_eq!(lifecycle.on(detected("v4")), [launch(1, "v4")]);
    assert_eq!(lifecycle.on(Event::NothingDetected), []);
}
