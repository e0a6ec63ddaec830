//! The conclusions of the chaos run from what clients saw and apps wrote: each kind of finding.
#![cfg(target_os = "linux")] // As `chaos.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use sample_app::journal::Entry;
use tests::chaos::ledger::{Account, Finding, Kill, Ledger, Outcome, Seen, Victim};
use tests::chaos::schedule::{Action, Schedule};

const ACTIVE: u32 = 17;
const OTHER: u32 = 18;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn entry(line: &str) -> Entry {
    line.parse().expect("an entry")
}

fn seen(id: &str, method: &'static str, outcome: Outcome) -> Seen {
    Seen {
        id: id.to_owned(),
        method,
        began: at(10),
        ended: at(11),
        outcome,
    }
}

fn answered(release: &str) -> Outcome {
    Outcome::Answered(release.to_owned())
}

fn failed() -> Outcome {
    Outcome::Failed("cut off".to_owned())
}

fn kill(victim: Victim, from: u64, to: u64) -> Kill {
    Kill {
        victim,
        from: at(from),
        to: at(to),
    }
}

/// Settles the account of one client, with v1 promoted at the start.
fn settle(seen: &[Seen], journal: &[&str], kills: &[Kill]) -> Account {
    let ledger = Ledger {
        seen: seen.to_vec(),
        journal: journal.iter().map(|line| entry(line)).collect(),
        kills: kills.to_vec(),
        promoted: BTreeMap::from([("v1".to_owned(), at(0))]),
        connections: 1,
    };
    ledger.settle()
}

#[track_caller]
fn finds(account: &Account, is_it: impl Fn(&Finding) -> bool) {
    let one = account.findings.len() == 1;
    assert!(one && is_it(&account.findings[0]), "{account}");
}

#[test]
fn what_arrived_once_and_was_answered_by_who_took_it_is_in_order() {
    let account = settle(
        &[
            seen("a", "GET", answered("v1")),
            seen("b", "POST", answered("v1")),
        ],
        &[
            "- GET / v1 17",
            "a GET /version v1 17",
            "b POST /upload v1 17",
        ],
        &[],
    );
    assert_eq!(account.findings, []);
    assert_eq!(account.answered["v1"], 2);
}

#[test]
fn a_failure_without_a_kill_is_a_loss() {
    let lost = [seen("a", "GET", failed())];
    finds(&settle(&lost, &[], &[]), |f| {
        matches!(f, Finding::Lost { .. })
    });
    let arrived = ["a GET /version v1 17"];
    finds(&settle(&lost, &arrived, &[]), |f| {
        matches!(f, Finding::Lost { .. })
    });
}

#[test]
fn a_failure_in_flight_at_a_kill_is_exempt() {
    let lost = [seen("a", "GET", failed())];
    for (victim, journal) in [
        (Victim::Handoff, &[][..]),
        (Victim::Handoff, &["a GET /version v1 17"]),
        (Victim::App(ACTIVE), &[]),
        (Victim::App(ACTIVE), &["a GET /version v1 17"]),
    ] {
        let account = settle(&lost, journal, &[kill(victim, 11, 12)]);
        assert_eq!(account.findings, []);
        assert_eq!(account.exempt["cut off"], 1);
    }
}

#[test]
fn a_kill_explains_no_failure_at_another_time_or_elsewhere() {
    let lost = [seen("a", "GET", failed())];
    let arrived = ["a GET /version v1 17"];
    for kill in [
        kill(Victim::Handoff, 5, 9),
        kill(Victim::Handoff, 12, 13),
        kill(Victim::App(OTHER), 10, 11),
    ] {
        finds(&settle(&lost, &arrived, &[kill]), |f| {
            matches!(f, Finding::Lost { .. })
        });
    }
}

#[test]
fn no_more_can_be_in_flight_than_there_are_connections() {
    let lost = [seen("a", "GET", failed()), seen("b", "GET", failed())];
    let account = settle(&lost, &[], &[kill(Victim::Handoff, 10, 11)]);
    finds(&account, |f| {
        matches!(
            f,
            Finding::TooMany {
                failed: 2,
                most: 1,
                ..
            }
        )
    });
    let twice = [(10, 11), (11, 12)].map(|(from, to)| kill(Victim::Handoff, from, to));
    let later = Seen {
        began: at(12),
        ended: at(12),
        ..lost[1].clone()
    };
    assert_eq!(settle(&[lost[0].clone(), later], &[], &twice).findings, []);
}

#[test]
fn what_is_not_idempotent_arrives_once_whatever_became_of_it() {
    let twice = ["a POST /upload v1 17", "a POST /upload v1 18"];
    let account = settle(&[seen("a", "POST", answered("v1"))], &twice, &[]);
    finds(&account, |f| {
        matches!(f, Finding::Repeated { times: 2, .. })
    });
    let lost = [seen("a", "POST", failed())];
    let account = settle(&lost, &twice, &[kill(Victim::Handoff, 10, 11)]);
    finds(&account, |f| {
        matches!(f, Finding::Repeated { times: 2, .. })
    });
}

#[test]
fn what_is_idempotent_may_arrive_twice_and_no_more() {
    let line = "a PUT /echo v1 17";
    let put = [seen("a", "PUT", answered("v1"))];
    let account = settle(&put, &[line, line], &[]);
    assert_eq!((account.findings.len(), account.sent_again), (0, 1));
    let account = settle(&put, &[line, line, line], &[]);
    finds(&account, |f| {
        matches!(f, Finding::Repeated { times: 3, .. })
    });
}

#[test]
fn an_answer_of_another_release_than_the_one_that_took_it_is_mixed_up() {
    let account = settle(
        &[seen("a", "GET", answered("v1"))],
        &["a GET /version v2 18"],
        &[],
    );
    finds(&account, |f| matches!(f, Finding::MixedUp { .. }));
}

#[test]
fn a_wrong_answer_is_never_exempt() {
    let wrong = [seen(
        "a",
        "GET",
        Outcome::Wrong("an answer to b".to_owned()),
    )];
    let arrived = ["a GET /version v1 17"];
    let account = settle(&wrong, &arrived, &[kill(Victim::Handoff, 10, 11)]);
    finds(&account, |f| matches!(f, Finding::MixedUp { .. }));
}

#[test]
fn an_answer_to_what_never_arrived_is_from_nowhere() {
    let account = settle(&[seen("a", "GET", answered("v1"))], &[], &[]);
    finds(&account, |f| matches!(f, Finding::FromNowhere { .. }));
}

#[test]
fn only_what_has_been_promoted_answers() {
    let answer = [seen("a", "GET", answered("v2"))];
    let arrived = ["a GET /version v2 18"];
    finds(&settle(&answer, &arrived, &[]), |f| {
        matches!(f, Finding::NotPromoted { .. })
    });
    let ledger = |promoted| Ledger {
        seen: answer.to_vec(),
        journal: vec![entry(arrived[0])],
        promoted: BTreeMap::from([("v2".to_owned(), promoted)]),
        ..Ledger::default()
    };
    assert_eq!(ledger(at(11)).settle().findings, []);
    finds(&ledger(at(60)).settle(), |f| {
        matches!(f, Finding::NotPromoted { .. })
    });
}

#[test]
fn what_no_client_sent_is_told() {
    let account = settle(&[], &["a GET /version v1 17"], &[]);
    finds(&account, |f| matches!(f, Finding::Unknown { .. }));
}

#[test]
fn a_seed_gives_the_same_steps_again_and_every_round_has_every_action() {
    let rounds = |seed| {
        let mut schedule = Schedule::new(seed);
        [schedule.round(), schedule.round()]
    };
    assert_eq!(rounds(7), rounds(7));
    assert_ne!(rounds(7), rounds(8));
    let kinds = |round: &[tests::chaos::schedule::Step]| {
        let mut kinds: Vec<_> = round.iter().map(|step| Action::kind(step.action)).collect();
        kinds.sort();
        kinds
    };
    let [first, second] = rounds(7);
    assert_ne!(first, second);
    assert_eq!(kinds(&first), kinds(&second));
}
