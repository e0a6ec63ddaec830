use super::*;
use crate::metrics::Metrics;
use crate::release::Release;
use crate::result::{Failed, Failure, Outcome};
use crate::scenario::Phases;
use crate::traffic::{Call, Connection, Shot};

fn setup(swaps: u32) -> Setup {
    Setup {
        strategy: "handoff".to_owned(),
        title: "handoff, pointer file".to_owned(),
        names_releases: true,
        url: "http://127.0.0.1:1/".to_owned(),
        deploy_by: Some(DeployBy::Pointer),
        deploy: None,
        connections: 64,
        swaps,
        swap_every_ms: 2000,
        started: "2026-01-02T03:04:05Z".to_owned(),
        duration_s: 4.0,
        rate: 1000,
        started_ms: 1_000_000,
    }
}

/// The deploy of release `number` at so many seconds from the start; 500 ms from detected to stopped.
fn swap(number: u32) -> Swap {
    let release = Release {
        number,
        file: "f".into(),
        sha256: "aa".to_owned(),
    };
    let phases = Phases {
        detected_ms: Some(10),
        copied_ms: Some(40),
        launched_ms: Some(41),
        ready_ms: Some(80),
        promoted_ms: Some(81),
        drained_ms: Some(500),
        stopped_ms: Some(510),
    };
    Swap {
        phases,
        written_ms: 1_000_000 + u64::from(number) * 1000,
        ..Swap::of(&release)
    }
}

fn outcome(seq: u64, release: u32, due_ms: u64) -> Outcome {
    let due = Duration::from_millis(due_ms);
    Outcome {
        shot: Shot {
            seq,
            connection: Connection::Kept,
            call: Call::Home,
        },
        due,
        taken: due,
        began: due,
        ended: due + Duration::from_millis(5),
        part_late: Duration::ZERO,
        release: Some(release),
        reopened: false,
        failed: None,
    }
}

/// Clients saw each release 85 ms after its deploy.
fn metrics(releases: std::ops::RangeInclusive<u32>) -> Metrics {
    let mut metrics = Metrics::new(Duration::ZERO);
    for release in releases {
        metrics.add(&outcome(
            u64::from(release),
            release,
            u64::from(release) * 1000 + 80,
        ));
    }
    metrics
}

pub fn passing() -> Summary {
    Summary::new(
        setup(3),
        &metrics(2..=4),
        vec![swap(2), swap(3), swap(4)],
        3,
        Vec::new(),
    )
}

pub fn failing() -> Summary {
    let mut metrics = metrics(1..=1);
    for seq in 0..2 {
        let mut refused = outcome(seq, 1, 50);
        (refused.release, refused.failed) = (
            None,
            Some(Failed::new(Failure::Refused, "no connection: refused")),
        );
        metrics.add(&refused);
    }
    Summary::new(setup(0), &metrics, Vec::new(), 3, Vec::new())
}

#[test]
fn the_json_has_the_keys_that_others_read() {
    let json = serde_json::to_value(passing()).unwrap();
    assert_eq!(json["sent"], 3);
    let failed = json["failed"].as_object().unwrap();
    let kinds: Vec<&str> = failed.keys().map(String::as_str).collect();
    assert_eq!(kinds.len(), 6);
    for kind in [
        "refused",
        "reset",
        "timeout",
        "status",
        "truncated",
        "wrong",
    ] {
        assert_eq!(failed[kind], 0, "{kind}");
    }
    let swap = &json["swaps"][0];
    assert_eq!(swap["release"], "v2");
    for (key, value) in [
        ("detected_ms", 10),
        ("ready_ms", 80),
        ("promoted_ms", 81),
        ("drained_ms", 500),
        ("stopped_ms", 510),
        ("seen_ms", 85),
    ] {
        assert_eq!(swap[key], value, "{key}");
    }
    for key in ["p50", "p90", "p99", "p999", "max"] {
        assert!(
            (json["latency_ms"][key].as_f64().unwrap() - 5.0).abs() < 0.01,
            "{key}"
        );
    }
    assert_eq!(json["passed"], true);
    assert_eq!(json["setup"]["strategy"], "handoff");
}

#[test]
fn swaps_divide_latencies() {
    let summary = passing();
    assert_eq!(summary.latency_in_swaps_ms.kept.count, 3);
    assert_eq!(summary.latency_outside_swaps_ms.kept.count, 0);
    assert_eq!(failing().latency_outside_swaps_ms.kept.count, 1);
}

#[test]
fn whatever_is_not_as_it_should_be_is_a_problem() {
    let problems = |swaps: Vec<Swap>, offered, trouble: &[&str]| {
        let trouble = trouble.iter().map(|text| (*text).to_owned()).collect();
        let summary = Summary::new(setup(2), &metrics(1..=3), swaps, offered, trouble);
        assert_eq!(summary.passed, summary.problems.is_empty());
        summary.problems
    };
    assert_eq!(problems(vec![swap(2), swap(3)], 3, &[]), [""; 0]);
    assert_eq!(
        problems(vec![swap(2), swap(3)], 4, &[]),
        ["4 requests were offered, 3 are accounted for"]
    );
    assert_eq!(
        problems(vec![swap(2), swap(3)], 3, &["failed to go on"]),
        ["failed to go on"]
    );
    assert_eq!(problems(vec![swap(2)], 3, &[]), ["1 of 2 swaps were made"]);
    assert_eq!(
        problems(vec![swap(2), swap(4)], 3, &[]),
        ["clients never saw v4"]
    );

    let mut refused = swap(4);
    refused.refused = Some("it exited".to_owned());
    refused.phases = Phases::default();
    assert_eq!(
        problems(vec![swap(2), refused], 3, &[]),
        ["v4 was refused: it exited"]
    );

    let mut lingering = swap(3);
    lingering.phases.stopped_ms = None;
    assert_eq!(
        problems(vec![swap(2), lingering], 3, &[]),
        ["the release before v3 was not stopped"]
    );

    assert_eq!(failing().problems, ["2 of 3 requests failed"]);
}

#[test]
fn what_names_no_release_need_not_be_seen() {
    let setup = Setup {
        names_releases: false,
        ..setup(1)
    };
    let summary = Summary::new(setup, &metrics(1..=1), vec![swap(4)], 1, Vec::new());
    assert!(summary.passed, "{:?}", summary.problems);
}

#[test]
fn both_kinds_of_connection_are_summed_and_the_longest_wait_is_told() {
    let mut metrics = metrics(1..=1);
    let mut late = outcome(9, 1, 3000);
    late.shot.connection = Connection::New;
    late.ended = late.due + Duration::from_millis(700);
    metrics.add(&late);
    let summary = Summary::new(setup(0), &metrics, Vec::new(), 2, Vec::new());
    assert_eq!(summary.latency_outside_swaps_ms.both.count, 2);
    assert_eq!(summary.stall_ms, Some(700.0));
}

#[test]
fn latencies_of_a_generator_that_was_late_are_withheld() {
    let mut metrics = metrics(1..=3);
    for seq in 0..3 {
        let mut late = outcome(seq, 3, 3500);
        late.taken = late.due + Duration::from_millis(150);
        late.ended = late.taken + Duration::from_millis(1);
        metrics.add(&late);
    }
    let summary = Summary::new(setup(2), &metrics, vec![swap(2), swap(3)], 6, Vec::new());
    assert!(
        summary
            .latency_withheld
            .as_ref()
            .unwrap()
            .contains("late by 150 ms")
    );
    assert_eq!(
        summary.latency_ms,
        Quantiles {
            count: 6,
            ..Quantiles::default()
        }
    );
    assert_eq!(
        serde_json::to_value(&summary).unwrap()["latency_ms"]["p99"],
        serde_json::Value::Null
    );
    assert_eq!(passing().latency_withheld, None);
}
