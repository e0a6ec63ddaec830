use std::num::{NonZeroU32, NonZeroUsize};

use super::*;
use crate::cli::DeployBy;
use crate::deploy::swap::Phases;
use crate::generator::failure::Failed;

fn spec(requests: u64, swaps: u32) -> PartSpec {
    let (rate, connections) = (NonZeroU32::new(1000), NonZeroUsize::new(64));
    PartSpec {
        requests,
        swaps,
        has_journal: true,
        deploy_by: Some(DeployBy::Pointer),
        commit: Some("abc".to_owned()),
        ..PartSpec::new("handoff", rate.unwrap(), connections.unwrap())
    }
}

fn all(ms: u64, count: u64) -> Histogram {
    let mut histogram = Histogram::default();
    for _ in 0..count {
        histogram.record(Duration::from_millis(ms));
    }
    histogram
}

fn swap(at_s: f64) -> Swap {
    Swap {
        at_s,
        phases: Phases {
            detected_ms: Some(2),
            copied_ms: Some(30),
            launched_ms: Some(31),
            ready_ms: Some(60),
            promoted_ms: Some(61),
            drained_ms: Some(1500),
            stopped_ms: Some(1520),
        },
        seen_ms: Some(63),
        ..Swap::of(&crate::deploy::release::Release::numbered(2))
    }
}

/// Returns a part with a journal, whose requests were all answered in 3 ms.
pub fn part(requests: u64, swaps: u32) -> Part {
    let class = |class, connection| ClassCounts {
        sent: requests / 2,
        latency: all(3, 1000),
        service: all(2, 1000),
        outside: all(3, 600),
        in_swaps: all(3, 200),
        in_controls: all(3, 200),
        ..ClassCounts::new(class, connection)
    };
    Part {
        spec: spec(requests, swaps),
        url: "http://127.0.0.1:1/".to_owned(),
        started_ms: 1_700_000_000_000,
        duration_s: 100.0,
        sent: requests,
        sent_again: 1,
        reopened: 2,
        failed: BTreeMap::new(),
        examples: Vec::new(),
        lateness: all(1, 1000),
        classes: vec![
            class(Class::GetKept, Connection::Kept),
            class(Class::WebSocket, Connection::New),
        ],
        moments: Vec::new(),
        stall_ms: 5.0,
        gap_ms: 1000.0,
        swaps: (0..swaps).map(|at| swap(f64::from(at))).collect(),
        control_runs: (0..swaps).map(|at| swap(f64::from(at) + 0.5)).collect(),
        startup_ms: vec![20.0],
        problems: Vec::new(),
    }
}

/// Returns the part of a demo that passed.
pub fn demo(swaps: u32) -> Part {
    let mut part = part(3, swaps);
    part.spec.has_journal = false;
    part.spec.requests = 0;
    part.control_runs.clear();
    part.startup_ms.clear();
    part
}

/// Returns the part of a demo in which two of three requests failed, and the only swap.
pub fn failing() -> Part {
    let mut part = demo(1);
    part.spec.swaps = 3;
    part.swaps[0].seen_ms = None;
    part.failed.insert(Failure::Refused, 2);
    part.examples.push(Example {
        failed: Failed::new(Failure::Refused, "no connection"),
        count: 2,
        first_s: 1.5,
        first_request: "GET / on a new connection".to_owned(),
    });
    part
}

#[test]
fn parts_are_added_up() {
    let report = Report::new(&[part(1000, 3), part(500, 2)]);
    assert!(report.passed, "{:?}", report.problems);
    assert_eq!((report.sent, report.swaps.len()), (1500, 5));
    assert_eq!((report.reopened, report.sent_again), (4, 2));
    assert_eq!(report.classes[&Class::GetKept].latency_ms.count, 2000);
    assert_eq!(report.latency_in_swaps_ms.kept.count, 400);
    assert_eq!(report.latency_in_swaps_ms.new.count, 0);
    assert_eq!(report.latency_slow_ms.count, 2000);
    assert!(!report.bounds.unwrap().decide);
}

#[test]
fn one_failure_fails_all() {
    let mut bad = part(1000, 3);
    bad.failed.insert(Failure::MixedUp, 1);
    let report = Report::new(&[part(1000, 3), bad]);
    assert!(!report.passed);
    assert_eq!(report.problems, ["1 of 2,000 requests failed"]);
    assert_eq!(report.failed["mixed_up"], 1);
    assert_eq!(report.failed.len(), 13, "also those that did not happen");
}

#[test]
fn without_a_journal_only_what_clients_saw_is_counted() {
    let report = Report::new(&[failing()]);
    assert_eq!(report.failed.len(), 6);
    assert_eq!(report.failed["refused"], 2);
    assert!(report.bounds.is_none());
    assert_eq!(
        report.problems,
        [
            "2 of 3 requests failed",
            "1 of 3 swaps were made",
            "clients never saw v2"
        ]
    );
}

#[test]
fn what_is_missing_fails() {
    let mut short = part(1000, 3);
    short.sent = 900;
    short.swaps.pop();
    short.problems.push("it ended".to_owned());
    short.swaps[0].refused = Some("it exited".to_owned());
    short.swaps[1].phases.stopped_ms = None;
    short.control_runs[2].phases.stopped_ms = None;
    assert_eq!(
        Report::new(&[short]).problems,
        [
            "900 of 1,000 requests were sent",
            "2 of 3 swaps were made",
            "it ended",
            "v2 was refused: it exited",
            "the release before v2 was not stopped",
            "the control release v2 was not refused"
        ]
    );
    let mut silent = demo(0);
    silent.sent = 0;
    assert_eq!(Report::new(&[silent]).problems, ["no request was sent"]);
}

#[test]
fn with_a_limit_on_time_as_many_swaps_were_asked_for_as_were_made() {
    let mut part = demo(2);
    part.spec.swaps = 0;
    let report = Report::new(&[part]);
    assert!(report.passed);
    assert_eq!(report.setup.spec.swaps, 2);
}

#[test]
fn bounds_decide_the_full_record_only() {
    let slow = |requests, swaps| {
        let mut part = part(requests, swaps);
        part.classes[0].in_swaps = all(300, 200);
        part.startup_ms.clear();
        Report::new(&[part])
    };
    assert!(slow(999_999, 100).passed && slow(1_000_000, 99).passed);
    let full = slow(1_000_000, 100);
    assert!(full.bounds.unwrap().decide && !full.passed);
    assert_eq!(full.problems.len(), 2, "{:?}", full.problems);
    assert!(Report::new(&[part(1_000_000, 100)]).passed);
}

#[test]
fn a_generator_that_was_late_has_no_latencies_to_quote() {
    let mut late = part(1000, 3);
    late.lateness = all(500, 1000);
    let report = Report::new(&[late]);
    let withheld = report.latency_withheld.unwrap();
    assert!(withheld.starts_with("the generator"), "{withheld}");
    assert_eq!(report.bounds.unwrap().p999_in_swaps.found_ms, None);
    assert_eq!((report.latency_ms.p50, report.stall_ms), (None, None));
    assert_eq!(report.latency_ms.count, 1000);
    assert_eq!(report.classes[&Class::GetKept].latency_ms.p99, None);
}

#[test]
fn a_generator_that_was_late_in_one_part_of_many_was_late() {
    let mut late = part(1000, 3);
    (late.lateness, late.spec.number) = (all(500, 1000), 2);
    let mut parts: Vec<Part> = (0..99).map(|_| part(1000, 3)).collect();
    parts.push(late);
    let report = Report::new(&parts);
    assert_eq!(report.lateness_ms.p99, Some(1.0));
    let withheld = report.latency_withheld.unwrap();
    assert!(
        withheld.starts_with("in part 2 the generator"),
        "{withheld}"
    );
}

#[test]
fn a_full_record_needs_a_generator_in_time() {
    let late = |ms| {
        let mut part = part(1_000_000, 100);
        part.lateness = all(ms, 1000);
        Report::new(&[part])
    };
    assert!(late(4).passed);
    let late = late(10);
    assert!(late.latency_withheld.is_none(), "{late:?}");
    assert!(late.problems[0].contains("late by 10 ms"), "{late:?}");
}

#[test]
fn a_part_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = Part::file(folder.path(), 1);
    assert!(Part::read(&file).unwrap().is_none());
    let mut part = part(1000, 3);
    part.failed.insert(Failure::WrongRelease, 2);
    part.write(&file).unwrap();
    let read = Part::read(&file).unwrap().unwrap();
    assert_eq!(read.spec, part.spec);
    let json = |part| serde_json::to_value(Report::new(&[part])).unwrap();
    assert_eq!(json(read), json(part));
}
