//! A release that waits, ready, for somebody to let it serve.

use super::tests::{POLICY, detected, launch, release, serving};
use super::*;

/// A lifecycle in which `v1` serves as generation 1, and `v2` is staged as generation 2.
fn staged() -> Lifecycle {
    let mut lifecycle = serving();
    assert_eq!(lifecycle.on(Event::StageRequested(release("v2"))), []);
    assert_eq!(lifecycle.on(detected("v2")), [launch(2, "v2")]);
    let actions = lifecycle.on(Event::Ready(Generation(2)));
    assert_eq!(actions, [Action::Stage(Generation(2))]);
    assert!(lifecycle.is_active(Generation(1)));
    lifecycle
}

fn refused(cause: RefusalCause) -> Action {
    Action::Refuse(Some(Generation(2)), release("v2"), cause)
}

#[test]
fn it_serves_once_that_is_requested() {
    let mut lifecycle = staged();
    assert_eq!(
        lifecycle.on(Event::PromoteRequested),
        [Action::Promote(Generation(2)), Action::Drain(Generation(1))]
    );
    assert!(lifecycle.is_good(&release("v2")));
    assert_eq!(
        lifecycle.on(Event::PromoteRequested),
        [Action::ReportNothingStaged]
    );
}

#[test]
fn a_canary_serves_when_it_has_passed_and_is_refused_for_its_errors() {
    let mut lifecycle = staged();
    assert_eq!(lifecycle.on(Event::CanaryPassed(Generation(1))), []);
    assert_eq!(
        lifecycle.on(Event::CanaryPassed(Generation(2))),
        [Action::Promote(Generation(2)), Action::Drain(Generation(1))]
    );
    let mut lifecycle = staged();
    let cause = RefusalCause::TooManyErrors;
    assert_eq!(
        lifecycle.on(Event::TooManyErrors(Generation(2))),
        [
            Action::Unstage(Generation(2)),
            Action::Drain(Generation(2)),
            Action::Refuse(Some(Generation(2)), release("v2"), cause)
        ]
    );
    assert!(lifecycle.is_active(Generation(1)));
}

#[test]
fn one_that_is_not_ready_yet_serves_as_soon_as_it_is() {
    let mut lifecycle = serving();
    lifecycle.on(Event::StageRequested(release("v2")));
    lifecycle.on(detected("v2"));
    assert_eq!(lifecycle.on(Event::PromoteRequested), []);
    let actions = lifecycle.on(Event::Ready(Generation(2)));
    assert_eq!(actions[0], Action::Promote(Generation(2)));
}

#[test]
fn it_is_refused_when_it_is_aborted_or_its_time_is_over() {
    for (end, cause) in [
        (Event::AbortRequested, RefusalCause::Aborted),
        (Event::StageExpired(Generation(2)), RefusalCause::Expired),
    ] {
        let mut lifecycle = staged();
        assert_eq!(lifecycle.on(Event::StageExpired(Generation(1))), []);
        assert_eq!(
            lifecycle.on(end),
            [
                Action::Unstage(Generation(2)),
                Action::Drain(Generation(2)),
                refused(cause)
            ]
        );
        assert_eq!(lifecycle.on(detected("v2")), []);
        assert!(!lifecycle.is_good(&release("v2")));
        // Nothing goes back to it while it drains.
        let actions = lifecycle.on(Event::Exited(Generation(1)));
        assert_eq!(actions, [Action::Withdraw, Action::RetryAfter(0)]);
    }
}

#[test]
fn what_serves_is_launched_again_beside_it() {
    let mut lifecycle = staged();
    lifecycle.on(Event::Exited(Generation(1)));
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v1")]);
    let actions = lifecycle.on(Event::Ready(Generation(3)));
    assert_eq!(actions, [Action::Promote(Generation(3))]);
    assert_eq!(
        lifecycle.on(Event::PromoteRequested),
        [Action::Promote(Generation(2)), Action::Drain(Generation(3))]
    );
}

#[test]
fn what_serves_is_launched_again_before_one_that_starts() {
    let mut lifecycle = serving();
    lifecycle.on(Event::StageRequested(release("v2")));
    lifecycle.on(detected("v2"));
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(1))),
        [
            Action::Withdraw,
            Action::Stop(Generation(2)),
            Action::RetryAfter(0)
        ]
    );
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v1")]);
    let actions = lifecycle.on(Event::Ready(Generation(3)));
    assert_eq!(actions, [Action::Promote(Generation(3)), launch(4, "v2")]);
    let actions = lifecycle.on(Event::Ready(Generation(4)));
    assert_eq!(actions, [Action::Stage(Generation(4))]);
}

#[test]
fn its_end_refuses_it() {
    let mut lifecycle = staged();
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(2))),
        [
            Action::Unstage(Generation(2)),
            Action::Refuse(Some(Generation(2)), release("v2"), RefusalCause::Failed)
        ]
    );
}

#[test]
fn another_release_or_a_rollback_takes_its_place() {
    let given_up = [Action::Unstage(Generation(2)), Action::Drain(Generation(2))];
    let mut newer = staged();
    let actions = newer.on(detected("v3"));
    assert_eq!(actions[..2], given_up);
    assert_eq!(actions[2..], [launch(3, "v3")]);
    let mut older = staged();
    let actions = older.on(detected("v1"));
    assert_eq!(actions, given_up);
    let mut back = staged();
    let actions = back.on(Event::RollbackRequested(None));
    assert_eq!(actions[..2], given_up);
    let refused = Action::Refuse(None, release("v2"), RefusalCause::RolledBack);
    assert_eq!(actions[2..], [refused]);
}

#[test]
fn with_nothing_else_to_serve_it_serves() {
    let mut lifecycle = Lifecycle::new(POLICY, Vec::new());
    lifecycle.on(Event::StageRequested(release("v1")));
    assert_eq!(lifecycle.on(detected("v1")), [launch(1, "v1")]);
    let actions = lifecycle.on(Event::Ready(Generation(1)));
    assert_eq!(actions, [Action::Promote(Generation(1))]);
}

#[test]
fn after_a_restart_what_has_served_goes_first() {
    let mut lifecycle = Lifecycle::new(POLICY, vec![release("v1")]);
    lifecycle.on(Event::StageRequested(release("v2")));
    assert_eq!(lifecycle.on(detected("v2")), [launch(1, "v1")]);
    let actions = lifecycle.on(Event::Ready(Generation(1)));
    assert_eq!(actions, [Action::Promote(Generation(1)), launch(2, "v2")]);
    let actions = lifecycle.on(Event::Ready(Generation(2)));
    assert_eq!(actions, [Action::Stage(Generation(2))]);
}

#[test]
fn a_shutdown_drains_it() {
    let mut lifecycle = staged();
    lifecycle.on(Event::ShutdownRequested);
    lifecycle.on(Event::PortClosed);
    for generation in [1, 2] {
        lifecycle.on(Event::Drained(Generation(generation)));
        assert!(!lifecycle.is_finished());
        lifecycle.on(Event::Exited(Generation(generation)));
    }
    assert!(lifecycle.is_finished());
}
