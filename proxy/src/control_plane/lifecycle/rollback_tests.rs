//! The target of a rollback that names no release.

use super::tests::{POLICY, detected, release, serving};
use super::*;

/// `v2`, which cannot run twice, serves as generation 2 after `v1`, if that has.
fn alone(after_v1: bool) -> Lifecycle {
    let policy = Policy {
        can_overlap: false,
        ..POLICY
    };
    let good = after_v1.then(|| release("v1"));
    let mut lifecycle = Lifecycle::new(policy, good.into_iter().collect());
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(1)));
    lifecycle.on(detected("v3"));
    lifecycle
}

fn refuse_v3() -> Action {
    Action::Refuse(None, release("v3"), RefusalCause::RolledBack)
}

#[test]
fn during_a_deploy_it_goes_to_what_made_room() {
    for after_v1 in [false, true] {
        let mut draining = alone(after_v1);
        let mut starting = draining.clone();
        assert_eq!(
            draining.on(Event::RollbackRequested(None)),
            [refuse_v3(), Action::Promote(Generation(1))]
        );
        starting.on(Event::Drained(Generation(1)));
        starting.on(Event::Exited(Generation(1)));
        let mut due = starting.clone();
        assert_eq!(
            starting.on(Event::RollbackRequested(None)),
            [Action::Stop(Generation(2))]
        );
        due.on(Event::LaunchFailed(Generation(2)));
        let back = Action::Launch(Generation(3), release("v2"), Purpose::Rollback);
        let due_again = due.on(Event::RollbackRequested(None));
        assert_eq!(due_again, starting.on(Event::Exited(Generation(2))));
        assert_eq!(due_again, [back]);
        for mut lifecycle in [starting, due] {
            assert_eq!(
                lifecycle.on(Event::Ready(Generation(3))),
                [Action::Promote(Generation(3)), refuse_v3()]
            );
        }
    }
}

#[test]
fn a_deploy_whose_launch_is_due_again_is_taken_back_by_staying() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    lifecycle.on(detected("v3"));
    lifecycle.on(Event::LaunchFailed(Generation(3)));
    assert_eq!(lifecycle.on(Event::RollbackRequested(None)), [refuse_v3()]);
    assert_eq!(lifecycle.on(Event::RetryDue), []);
}

/// `v2` serves after `v1`, `v3` was refused, and a rollback to `v1` has begun as generation 4.
fn after_a_refused_deploy() -> Lifecycle {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    lifecycle.on(Event::Drained(Generation(1)));
    lifecycle.on(Event::Exited(Generation(1)));
    lifecycle.on(detected("v3"));
    lifecycle.on(Event::Exited(Generation(3)));
    let back = Action::Launch(Generation(4), release("v1"), Purpose::Rollback);
    assert_eq!(lifecycle.on(Event::RollbackRequested(None)), [back]);
    lifecycle
}

#[test]
fn the_pointer_that_a_refused_deploy_puts_back_does_not_end_it() {
    for seen in ["v2", "v3"] {
        let mut lifecycle = after_a_refused_deploy();
        assert_eq!(lifecycle.on(detected(seen)), []);
        let done = lifecycle.on(Event::Ready(Generation(4)));
        assert!(done.contains(&Action::Promote(Generation(4))), "{done:?}");

        let mut delayed = after_a_refused_deploy();
        delayed.on(Event::LaunchFailed(Generation(4)));
        assert_eq!(delayed.on(detected(seen)), []);
        let again = Action::Launch(Generation(5), release("v1"), Purpose::Rollback);
        assert_eq!(delayed.on(Event::RetryDue), [again]);
    }
}

#[test]
fn a_new_release_ends_it_and_says_so() {
    let mut lifecycle = after_a_refused_deploy();
    let given_up = Action::ReportRollbackGivenUp(release("v1"), Some(release("v4")));
    let actions = lifecycle.on(detected("v4"));
    assert!(actions.contains(&given_up), "{actions:?}");
}

#[test]
fn a_crash_of_what_serves_does_not_end_it() {
    let mut lifecycle = after_a_refused_deploy();
    lifecycle.on(Event::LaunchFailed(Generation(4)));
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(2))),
        [Action::Withdraw]
    );
    let again = Action::Launch(Generation(5), release("v1"), Purpose::Rollback);
    assert_eq!(lifecycle.on(Event::RetryDue), [again]);
}

#[test]
fn a_second_one_meanwhile_asks_for_the_same() {
    let mut lifecycle = after_a_refused_deploy();
    assert_eq!(lifecycle.on(Event::RollbackRequested(None)), []);
    assert_eq!(lifecycle.before_the_latest(), Some(release("v1")));
    let actions = lifecycle.on(Event::Ready(Generation(4)));
    assert!(
        actions.contains(&Action::Promote(Generation(4))),
        "{actions:?}"
    );
}

#[test]
fn what_a_rollback_left_is_gone_to_only_by_name() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    lifecycle.on(Event::Drained(Generation(1)));
    lifecycle.on(Event::Exited(Generation(1)));
    let to = |name| Event::RollbackRequested(Some(release(name)));
    lifecycle.on(to("v1"));
    lifecycle.on(Event::Ready(Generation(3)));
    assert_eq!(lifecycle.earlier().collect::<Vec<_>>(), [&release("v2")]);
    assert!(lifecycle.needed().any(|needed| *needed == release("v2")));
    assert_eq!(lifecycle.before_the_latest(), None);
    lifecycle.on(Event::Drained(Generation(2)));
    lifecycle.on(Event::Exited(Generation(2)));
    let launch = Action::Launch(Generation(4), release("v2"), Purpose::Rollback);
    assert_eq!(lifecycle.on(to("v2")), [launch]);
}

#[test]
fn a_restart_that_a_rollback_replaces_is_reported() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    lifecycle.on(Event::RestartRequested);
    let superseded = Action::ReportRestart(RestartEnd::Superseded(release("v1")));
    let back = lifecycle.on(Event::RollbackRequested(Some(release("v1"))));
    assert!(back.contains(&superseded), "{back:?}");
    // One to what serves leaves it as it is.
    lifecycle.on(Event::RestartRequested);
    let stays = lifecycle.on(Event::RollbackRequested(Some(release("v1"))));
    let is_report = |action: &Action| matches!(action, Action::ReportRestart(_));
    assert!(!stays.iter().any(is_report), "{stays:?}");
}
