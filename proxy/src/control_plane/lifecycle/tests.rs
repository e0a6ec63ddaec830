use super::*;

pub(super) const POLICY: Policy = Policy {
    max_draining: 2,
    rapid_fails: 3,
    can_overlap: true,
    has_trials: false,
    may_go_back: true,
    has_sessions: false,
};

pub(super) fn release(name: &str) -> ReleaseId {
    ReleaseId::new(name)
}

pub(super) fn launch(generation: u64, name: &str) -> Action {
    Action::Launch(Generation(generation), release(name), Purpose::Deploy)
}

pub(super) fn detected(name: &str) -> Event {
    Event::Detected(release(name))
}

/// A lifecycle in which `v1` serves as generation 1.
pub(super) fn serving() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(POLICY, Vec::new());
    assert_eq!(lifecycle.on(detected("v1")), [launch(1, "v1")]);
    let actions = lifecycle.on(Event::Ready(Generation(1)));
    assert_eq!(actions, [Action::Promote(Generation(1))]);
    lifecycle
}

#[test]
fn a_ready_candidate_supersedes_the_active_one() {
    let mut lifecycle = serving();
    assert_eq!(lifecycle.on(detected("v2")), [launch(2, "v2")]);
    assert_eq!(
        lifecycle.on(Event::Ready(Generation(2))),
        [Action::Promote(Generation(2)), Action::Drain(Generation(1))]
    );
    assert_eq!(
        lifecycle.on(Event::Drained(Generation(1))),
        [Action::Stop(Generation(1))]
    );
}

#[test]
fn a_candidate_that_fails_is_refused_and_not_tried_again() {
    for failure in [
        Event::Exited(Generation(2)),
        Event::NeverReady(Generation(2)),
    ] {
        let mut lifecycle = serving();
        lifecycle.on(detected("bad"));
        let refused = Action::Refuse(Some(Generation(2)), release("bad"), RefusalCause::Failed);
        assert_eq!(lifecycle.on(failure).last(), Some(&refused));
        assert_eq!(lifecycle.on(detected("bad")), []);
        assert_eq!(lifecycle.on(detected("v3")), [launch(3, "v3")]);
    }
}

#[test]
fn one_that_was_refused_and_forgotten_is_a_new_one() {
    let mut lifecycle = serving();
    lifecycle.on(detected("bad"));
    lifecycle.on(Event::Exited(Generation(2)));
    let needed: Vec<_> = lifecycle.needed().cloned().collect();
    lifecycle.forget_refused(|release| needed.contains(release));
    assert_eq!(lifecycle.on(detected("bad")), [], "it is the newest");
    lifecycle.on(detected("v3"));
    lifecycle.on(Event::Ready(Generation(3)));
    let needed: Vec<_> = lifecycle.needed().cloned().collect();
    lifecycle.forget_refused(|release| needed.contains(release));
    assert_eq!(lifecycle.on(detected("bad")), [launch(4, "bad")]);
}

#[test]
fn a_launch_that_the_machine_refused_is_tried_again() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    let actions = lifecycle.on(Event::LaunchFailed(Generation(2)));
    assert_eq!(actions, [Action::RetryAfter(0)]);
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v2")]);
}

#[test]
fn the_only_release_is_tried_for_ever() {
    let mut lifecycle = Lifecycle::new(POLICY, Vec::new());
    lifecycle.on(detected("v1"));
    for attempt in 0..20 {
        let generation = Generation(u64::from(attempt) + 1);
        let actions = lifecycle.on(Event::Exited(generation));
        assert_eq!(actions, [Action::RetryAfter(attempt)]);
        let next = launch(u64::from(attempt) + 2, "v1");
        assert_eq!(lifecycle.on(Event::RetryDue), [next]);
    }
}

#[test]
fn a_newer_artifact_replaces_the_candidate_that_is_starting() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    assert_eq!(
        lifecycle.on(detected("v3")),
        [Action::Stop(Generation(2)), launch(3, "v3")]
    );
}

#[test]
fn a_deploy_of_what_serves_abandons_the_candidate() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    let actions = lifecycle.on(detected("v1"));
    assert_eq!(actions, [Action::Stop(Generation(2))]);
    assert_eq!(lifecycle.on(detected("v1")), []);
}

#[test]
fn a_crashed_active_is_launched_again() {
    let mut lifecycle = serving();
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(1))),
        [Action::Withdraw, Action::RetryAfter(0)]
    );
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(2, "v1")]);
}

#[test]
fn when_the_active_crashes_the_one_that_still_drains_serves_again() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(2))),
        [Action::Promote(Generation(1)), Action::RetryAfter(0)]
    );
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v2")]);
}

#[test]
fn a_settled_instance_starts_with_a_clean_record() {
    let mut lifecycle = serving();
    for generation in 1..10 {
        lifecycle.on(Event::Settled(Generation(generation)));
        let actions = lifecycle.on(Event::Exited(Generation(generation)));
        assert_eq!(actions, [Action::Withdraw, Action::RetryAfter(0)]);
        lifecycle.on(Event::RetryDue);
        lifecycle.on(Event::Ready(Generation(generation + 1)));
    }
}

#[test]
fn when_active_and_candidate_both_die_the_last_good_release_starts() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(1))),
        [Action::Withdraw]
    );
    assert_eq!(
        lifecycle.on(Event::Exited(Generation(2))),
        [Action::RetryAfter(0)]
    );
    assert_eq!(lifecycle.on(Event::RetryDue), [launch(3, "v1")]);
    // Once that serves, the newer one gets its fair trial.
    assert_eq!(
        lifecycle.on(Event::Ready(Generation(3))),
        [Action::Promote(Generation(3)), launch(4, "v2")]
    );
}

#[test]
fn the_oldest_of_too_many_draining_instances_is_evicted_once() {
    let mut lifecycle = serving();
    let mut evicted = Vec::new();
    for generation in 2..=5 {
        lifecycle.on(detected(&format!("v{generation}")));
        for action in lifecycle.on(Event::Ready(Generation(generation))) {
            if let Action::Evict(generation) = action {
                evicted.push(generation.0);
            }
        }
    }
    assert_eq!(evicted, [1, 2]);
}

#[test]
fn shutdown_stops_the_candidate_at_once_and_the_active_one_when_the_port_is_closed() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    let actions = lifecycle.on(Event::ShutdownRequested);
    assert_eq!(actions, [Action::Stop(Generation(2))]);
    assert_eq!(lifecycle.on(detected("v3")), []);
    assert_eq!(
        lifecycle.on(Event::PortClosed),
        [Action::Withdraw, Action::Drain(Generation(1))]
    );
    let actions = lifecycle.on(Event::Drained(Generation(1)));
    assert_eq!(actions, [Action::Stop(Generation(1))]);
    lifecycle.on(Event::Exited(Generation(1)));
    assert!(!lifecycle.is_finished());
    lifecycle.on(Event::Exited(Generation(2)));
    assert!(lifecycle.is_finished());
}

const BAKING: Policy = Policy {
    has_trials: true,
    ..POLICY
};
const ALONE: Policy = Policy {
    can_overlap: false,
    ..POLICY
};

fn generation(number: u64) -> Generation {
    Generation(number)
}

fn refuse(number: u64, name: &str, cause: RefusalCause) -> Action {
    Action::Refuse(Some(generation(number)), release(name), cause)
}

/// `v2` serves as generation 2, and `v1` is on standby.
fn baking() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(BAKING, Vec::new());
    for (number, name) in [(1, "v1"), (2, "v2")] {
        lifecycle.on(detected(name));
        lifecycle.on(Event::Ready(generation(number)));
    }
    let kept = lifecycle.on(Event::Drained(generation(1)));
    assert_eq!(kept, [Action::Keep(generation(1))]);
    lifecycle
}

#[test]
fn a_release_that_crashes_while_it_bakes_gives_way_to_the_standby() {
    let mut lifecycle = baking();
    assert_eq!(
        lifecycle.on(Event::Exited(generation(2))),
        [
            Action::Promote(generation(1)),
            refuse(2, "v2", RefusalCause::Failed)
        ]
    );
    assert_eq!(lifecycle.on(detected("v2")), []);
}

#[test]
fn so_does_one_whose_live_check_falls_or_that_answers_with_errors() {
    for (event, cause) in [
        (
            Event::LivenessLost(generation(2)),
            RefusalCause::LivenessLost,
        ),
        (
            Event::TooManyErrors(generation(2)),
            RefusalCause::TooManyErrors,
        ),
    ] {
        assert_eq!(
            baking().on(event),
            [
                Action::Promote(generation(1)),
                refuse(2, "v2", cause),
                Action::Drain(generation(2))
            ]
        );
    }
}

#[test]
fn a_standby_ends_with_the_bake_and_before_the_next_candidate_starts() {
    let mut lifecycle = baking();
    let over = lifecycle.on(Event::TrialEnded(generation(2)));
    assert_eq!(over, [Action::Stop(generation(1))]);
    assert_eq!(lifecycle.on(Event::TooManyErrors(generation(2))), []);

    let mut lifecycle = baking();
    assert_eq!(lifecycle.on(detected("v3")), [Action::Stop(generation(1))]);
    let gone = lifecycle.on(Event::Exited(generation(1)));
    assert_eq!(gone, [launch(3, "v3")]);
}

#[test]
fn a_candidate_does_not_wait_for_the_standby_when_nothing_serves() {
    let mut lifecycle = baking();
    lifecycle.on(detected("v3"));
    assert_eq!(
        lifecycle.on(Event::Exited(generation(2))),
        [Action::Withdraw, launch(3, "v3")]
    );
}

#[test]
fn a_rollback_that_is_asked_for_finds_the_standby() {
    assert_eq!(
        baking().on(Event::RollbackRequested(None)),
        [
            Action::Promote(generation(1)),
            refuse(2, "v2", RefusalCause::RolledBack),
            Action::Drain(generation(2))
        ]
    );
}

#[test]
fn without_one_the_old_release_starts_and_the_new_one_serves_meanwhile() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(generation(2)));
    lifecycle.on(Event::Drained(generation(1)));
    let back = Action::Launch(generation(3), release("v1"), Purpose::Rollback);
    assert_eq!(lifecycle.on(Event::RollbackRequested(None)), [back]);
    assert_eq!(
        lifecycle.on(Event::Ready(generation(3))),
        [
            Action::Promote(generation(3)),
            refuse(2, "v2", RefusalCause::RolledBack),
            Action::Drain(generation(2))
        ]
    );
    assert_eq!(
        lifecycle.on(Event::RetryRequested(release("v2"))),
        [launch(4, "v2")]
    );
}

#[test]
fn with_nothing_to_go_back_to_it_says_so() {
    let asked = serving().on(Event::RollbackRequested(None));
    assert_eq!(asked, [Action::ReportNoRollbackTarget]);
}

#[test]
fn a_fallen_live_check_brings_one_second_instance_and_moves_nothing_if_that_fails() {
    let mut lifecycle = serving();
    let second = Action::Launch(generation(2), release("v1"), Purpose::Rescue);
    assert_eq!(lifecycle.on(Event::LivenessLost(generation(1))), [second]);
    assert_eq!(
        lifecycle.on(Event::NeverReady(generation(2))),
        [Action::Stop(generation(2))]
    );
    assert_eq!(lifecycle.on(Event::Exited(generation(2))), []);
    lifecycle.on(Event::LivenessRecovered(generation(1)));
    let third = Action::Launch(generation(3), release("v1"), Purpose::Rescue);
    assert_eq!(lifecycle.on(Event::LivenessLost(generation(1))), [third]);
    assert_eq!(
        lifecycle.on(Event::Ready(generation(3))),
        [Action::Promote(generation(3)), Action::Drain(generation(1))]
    );
}

#[test]
fn an_app_that_cannot_run_twice_ends_before_the_next_one_starts() {
    let mut lifecycle = Lifecycle::new(ALONE, Vec::new());
    lifecycle.on(detected("v1"));
    lifecycle.on(Event::Ready(generation(1)));
    assert_eq!(
        lifecycle.on(detected("v2")),
        [Action::Withdraw, Action::Drain(generation(1))]
    );
    let drained = lifecycle.on(Event::Drained(generation(1)));
    assert_eq!(drained, [Action::Stop(generation(1))]);
    assert_eq!(
        lifecycle.on(Event::Exited(generation(1))),
        [launch(2, "v2")]
    );
    assert_eq!(
        lifecycle.on(Event::Exited(generation(2))),
        [refuse(2, "v2", RefusalCause::Failed), launch(3, "v1")]
    );
}

#[test]
fn a_restart_is_a_handoff_within_the_release() {
    let mut lifecycle = serving();
    let again = Action::Launch(generation(2), release("v1"), Purpose::Restart);
    assert_eq!(lifecycle.on(Event::RestartRequested), [again]);
    assert_eq!(lifecycle.on(Event::RestartRequested), [], "it is the same");
    assert_eq!(lifecycle.on(detected("v1")), [], "it goes on");
    assert_eq!(
        lifecycle.on(Event::Exited(generation(2))),
        [Action::ReportRestart(RestartEnd::Failed)],
        "and is not refused"
    );
}

#[test]
fn a_restart_waits_for_what_starts_and_is_done_if_that_does_not_serve() {
    let mut starting = serving();
    starting.on(detected("v2"));
    assert_eq!(starting.on(Event::RestartRequested), []);
    let again = Action::Launch(generation(3), release("v1"), Purpose::Restart);

    let mut refused = starting.clone();
    let actions = refused.on(Event::NeverReady(generation(2)));
    assert_eq!(actions.last(), Some(&again), "{actions:?}");
    let failed = Action::ReportRestart(RestartEnd::Failed);
    assert_eq!(refused.on(Event::Exited(generation(3))), [failed], "once");

    let mut abandoned = starting.clone();
    let actions = abandoned.on(detected("v1"));
    assert_eq!(actions, [Action::Stop(generation(2)), again]);

    starting.on(Event::Ready(generation(2)));
    let crash = starting.on(Event::Exited(generation(1)));
    assert_eq!(crash, [], "what serves is new");
}

#[test]
fn a_restart_outlives_a_deploy_in_its_place() {
    let mut lifecycle = serving();
    lifecycle.on(Event::RestartRequested);
    assert_eq!(
        lifecycle.on(detected("v2")),
        [Action::Stop(generation(2)), launch(3, "v2")]
    );
    let actions = lifecycle.on(Event::NeverReady(generation(3)));
    let again = Action::Launch(generation(4), release("v1"), Purpose::Restart);
    assert_eq!(actions.last(), Some(&again), "{actions:?}");
}

#[test]
fn a_rollback_takes_the_place_of_a_restart() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::RestartRequested);
    lifecycle.on(Event::RollbackRequested(None));
    assert_eq!(lifecycle.on(Event::Exited(generation(2))), []);
}

#[test]
fn a_due_retry_is_forgotten_when_something_else_is_wanted() {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::LaunchFailed(generation(2)));
    assert_eq!(lifecycle.on(detected("v1")), []);
    assert_eq!(lifecycle.on(Event::RetryDue), []);
}
