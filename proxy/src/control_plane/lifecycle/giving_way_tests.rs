//! The release that gives way because it crashes again and again, and its return.

use super::tests::{detected, launch, release, serving};
use super::*;

fn returns(after: u32) -> Action {
    Action::ReturnAfter(release("v2"), after)
}

/// `v2` has crashed as often as counts, `v1` is launched instead and serves. Returns its generation.
fn fallen() -> (Lifecycle, u64) {
    let mut lifecycle = serving();
    lifecycle.on(detected("v2"));
    lifecycle.on(Event::Ready(Generation(2)));
    lifecycle.on(Event::Drained(Generation(1)));
    lifecycle.on(Event::Exited(Generation(1)));
    let mut generation = 2;
    for crashes in 1.. {
        let actions = lifecycle.on(Event::Exited(Generation(generation)));
        if crashes == lifecycle.policy.rapid_fails {
            let gave_way =
                Action::ReportGaveWay(Generation(generation), release("v2"), release("v1"));
            let launched = launch(generation + 1, "v1");
            assert_eq!(actions, [Action::Withdraw, gave_way, returns(1), launched]);
            break;
        }
        lifecycle.on(Event::RetryDue);
        generation += 1;
        lifecycle.on(Event::Ready(Generation(generation)));
    }
    generation += 1;
    let promoted = lifecycle.on(Event::Ready(Generation(generation)));
    assert_eq!(promoted, [Action::Promote(Generation(generation))]);
    (lifecycle, generation)
}

fn due() -> Event {
    Event::ReturnDue(release("v2"))
}

#[test]
fn the_newest_is_tried_again_after_pauses_that_grow() {
    let (mut lifecycle, before) = fallen();
    for pauses in 2..5 {
        let generation = before + u64::from(pauses) - 1;
        assert_eq!(lifecycle.on(due()), [launch(generation, "v2")]);
        lifecycle.on(Event::Ready(Generation(generation)));
        // What was superseded still drains, and takes over at the first crash.
        let crashed = lifecycle.on(Event::Exited(Generation(generation)));
        assert_eq!(crashed[0], Action::Promote(Generation(before)));
        assert!(crashed.contains(&returns(pauses)), "{crashed:?}");
    }
}

#[test]
fn one_that_settles_is_as_good_as_before() {
    let (mut lifecycle, generation) = fallen();
    lifecycle.on(due());
    lifecycle.on(Event::Ready(Generation(generation + 1)));
    lifecycle.on(Event::Settled(Generation(generation + 1)));
    lifecycle.on(Event::Drained(Generation(generation)));
    lifecycle.on(Event::Exited(Generation(generation)));
    let crashed = lifecycle.on(Event::Exited(Generation(generation + 1)));
    assert_eq!(crashed, [Action::Withdraw, Action::RetryAfter(0)]);
}

#[test]
fn an_operator_who_says_stay_is_obeyed() {
    let (mut lifecycle, _) = fallen();
    let stay = lifecycle.on(Event::RollbackRequested(Some(release("v1"))));
    let refused = Action::Refuse(None, release("v2"), RefusalCause::RolledBack);
    assert_eq!(stay, [refused]);
    assert_eq!(lifecycle.on(due()), []);
}

#[test]
fn one_that_is_deployed_again_does_not_rest() {
    let (mut lifecycle, generation) = fallen();
    let again = lifecycle.on(detected("v2"));
    assert_eq!(again, [launch(generation + 1, "v2")]);
    assert_eq!(lifecycle.on(due()), []);
}

#[test]
fn what_serves_instead_does_not_give_way_to_what_rests() {
    let (mut lifecycle, mut generation) = fallen();
    for _ in 0..2 * lifecycle.policy.rapid_fails {
        let crashed = lifecycle.on(Event::Exited(Generation(generation)));
        assert!(matches!(
            crashed[..],
            [Action::Withdraw, Action::RetryAfter(_)]
        ));
        generation += 1;
        assert_eq!(lifecycle.on(Event::RetryDue), [launch(generation, "v1")]);
        lifecycle.on(Event::Ready(Generation(generation)));
    }
    // The pause goes on all the while.
    assert_eq!(lifecycle.on(due()), [launch(generation + 1, "v2")]);
}

#[test]
fn what_starts_when_the_pause_is_over_goes_first() {
    let (mut lifecycle, generation) = fallen();
    lifecycle.on(Event::RestartRequested);
    assert_eq!(lifecycle.on(due()), [returns(1)]);
    lifecycle.on(Event::Ready(Generation(generation + 1)));
    assert_eq!(lifecycle.on(due()), [launch(generation + 2, "v2")]);
}
