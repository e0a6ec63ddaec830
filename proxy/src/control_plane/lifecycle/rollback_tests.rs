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
