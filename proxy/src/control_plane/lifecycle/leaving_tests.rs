use super::tests::{POLICY, detected, launch, release};
use super::*;

const SESSIONS: Policy = Policy {
    has_sessions: true,
    ..POLICY
};
const FIRST: Generation = Generation(1);
const SECOND: Generation = Generation(2);

/// A lifecycle in which `v2` has superseded `v1`, whose sessions go on.
fn superseded(policy: Policy) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(policy, Vec::new());
    lifecycle.on(detected("v1"));
    lifecycle.on(Event::Ready(FIRST));
    lifecycle.on(detected("v2"));
    let actions = lifecycle.on(Event::Ready(SECOND));
    assert_eq!(actions[..1], [Action::Promote(SECOND)]);
    assert_eq!(actions.last(), Some(&Action::Pin(FIRST)));
    lifecycle
}

#[test]
fn an_instance_is_not_stopped_before_its_sessions_end_even_with_nothing_in_flight() {
    let mut lifecycle = superseded(SESSIONS);
    assert_eq!(lifecycle.on(Event::Drained(FIRST)), []);
    let ended = lifecycle.on(Event::SessionsEnded(FIRST));
    assert_eq!(ended, [Action::Drain(FIRST)]);
    assert_eq!(lifecycle.on(Event::SessionsEnded(FIRST)), []);
    let drained = lifecycle.on(Event::Drained(FIRST));
    assert_eq!(drained, [Action::Stop(FIRST)]);
}

#[test]
fn sessions_at_the_oldest_of_too_many_superseded_instances_end() {
    let mut lifecycle = superseded(Policy {
        max_draining: 1,
        ..SESSIONS
    });
    lifecycle.on(detected("v3"));
    let actions = lifecycle.on(Event::Ready(Generation(3)));
    let expected = [
        Action::Promote(Generation(3)),
        Action::Pin(SECOND),
        Action::Evict(FIRST),
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_rollback_ends_the_sessions_at_what_it_leaves_and_none_at_what_it_returns_to() {
    let mut lifecycle = superseded(SESSIONS);
    let actions = lifecycle.on(Event::RollbackRequested(None));
    assert_eq!(actions[0], Action::Promote(FIRST));
    assert_eq!(actions.last(), Some(&Action::Drain(SECOND)));
    assert_eq!(lifecycle.on(Event::SessionsEnded(FIRST)), []);
}

#[test]
fn an_unhealthy_instance_keeps_no_sessions() {
    let mut lifecycle = Lifecycle::new(SESSIONS, Vec::new());
    lifecycle.on(detected("v1"));
    lifecycle.on(Event::Ready(FIRST));
    let rescue = Action::Launch(SECOND, release("v1"), Purpose::Rescue);
    assert_eq!(lifecycle.on(Event::LivenessLost(FIRST)), [rescue]);
    let actions = lifecycle.on(Event::Ready(SECOND));
    assert_eq!(actions, [Action::Promote(SECOND), Action::Drain(FIRST)]);
}

#[test]
fn a_shutdown_ends_all_sessions() {
    let mut lifecycle = superseded(SESSIONS);
    let actions = lifecycle.on(Event::ShutdownRequested);
    assert_eq!(actions, [Action::Drain(FIRST)]);
}

#[test]
fn with_sessions_a_trial_has_its_standby_when_they_are_over() {
    let mut lifecycle = superseded(Policy {
        has_trials: true,
        ..SESSIONS
    });
    lifecycle.on(Event::SessionsEnded(FIRST));
    assert_eq!(lifecycle.on(Event::Drained(FIRST)), [Action::Keep(FIRST)]);
    assert_eq!(
        lifecycle.on(detected("v3")),
        [Action::Stop(FIRST)],
        "room is made"
    );
    assert_eq!(lifecycle.on(Event::Exited(FIRST)), [launch(3, "v3")]);
}
