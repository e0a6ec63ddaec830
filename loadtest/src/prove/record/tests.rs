use super::*;
use crate::scenario::Phases;

pub fn asked(requests: u64, swaps: u32) -> Asked {
    Asked {
        strategy: "handoff".to_owned(),
        number: 1,
        of: 1,
        requests,
        swaps,
        rate: 1000,
        connections: 64,
        deploy_by: "pointer".to_owned(),
        windows: false,
        commit: Some("abc".to_owned()),
        programs: None,
    }
}

fn all(ms: u64, count: u64) -> Percentiles {
    let mut percentiles = Percentiles::new();
    for _ in 0..count {
        percentiles.record(Duration::from_millis(ms));
    }
    percentiles
}

fn swap(at_s: f64) -> SwapPart {
    SwapPart {
        release: "v2".to_owned(),
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
    }
}

/// A part in which so much was sent, swapped at the beginning and answered in 3 ms.
pub fn part(requests: u64, swaps: u32) -> Part {
    let class = |class| ClassPart {
        sent: requests / 2,
        latency: all(3, 1000),
        service: all(2, 1000),
        outside: all(3, 600),
        in_swaps: all(3, 200),
        in_shams: all(3, 200),
        ..ClassPart::new(class)
    };
    Part {
        asked: asked(requests, swaps),
        started_ms: 1_700_000_000_000,
        duration_s: 100.0,
        sent: requests,
        sent_again: 1,
        reopened: 2,
        failed: BTreeMap::new(),
        examples: Vec::new(),
        lateness: all(1, 1000),
        classes: vec![class(Class::GetKept), class(Class::WebSocket)],
        moments: Vec::new(),
        swaps: (0..swaps).map(|at| swap(f64::from(at))).collect(),
        shams: (0..swaps).map(|at| swap(f64::from(at) + 0.5)).collect(),
        startup_ms: vec![20.0],
        problems: Vec::new(),
    }
}

fn record(parts: &[Part]) -> Record {
    let requests = parts.iter().map(|part| part.asked.requests).sum();
    let swaps = parts.iter().map(|part| part.asked.swaps).sum();
    Record::new(parts, &asked(requests, swaps))
}

#[test]
fn parts_are_added_up() {
    let record = record(&[part(1000, 3), part(500, 2)]);
    assert!(record.passed, "{:?}", record.problems);
    assert_eq!((record.sent, record.swaps.len()), (1500, 5));
    assert_eq!((record.reopened, record.sent_again), (4, 2));
    assert_eq!(record.classes[&Class::GetKept].latency_ms.count, 2000);
    assert_eq!(record.latency_in_swaps_ms.kept.count, 400);
    assert_eq!(record.latency_in_swaps_ms.new.count, 0);
    assert_eq!(record.latency_slow_ms.count, 2000);
    assert!(!record.bounds.decide);
}

#[test]
fn one_failure_fails_all() {
    let mut bad = part(1000, 3);
    bad.failed.insert(Failure::MixedUp, 1);
    let record = record(&[part(1000, 3), bad]);
    assert!(!record.passed);
    assert_eq!(record.problems, ["1 of 2,000 requests failed"]);
    assert_eq!(record.failed["mixed_up"], 1);
    assert_eq!(record.failed.len(), 10, "also those that did not happen");
}

#[test]
fn what_is_missing_fails() {
    let mut short = part(1000, 3);
    short.sent = 900;
    short.swaps.pop();
    short.problems.push("it ended".to_owned());
    assert_eq!(
        record(&[short]).problems,
        [
            "900 of 1,000 requests were sent",
            "2 of 3 swaps were made",
            "part 1: it ended"
        ]
    );
}

#[test]
fn bounds_decide_the_full_record_only() {
    let slow = |requests, swaps| {
        let mut part = part(requests, swaps);
        part.classes[0].in_swaps = all(300, 200);
        part.startup_ms.clear();
        record(&[part])
    };
    assert!(slow(999_999, 100).passed && slow(1_000_000, 99).passed);
    let full = slow(1_000_000, 100);
    assert!(full.bounds.decide && !full.passed);
    assert_eq!(full.problems.len(), 2, "{:?}", full.problems);
    assert!(record(&[part(1_000_000, 100)]).passed);
}

#[test]
fn a_generator_that_was_late_has_no_latencies_to_quote() {
    let mut late = part(1000, 3);
    late.lateness = all(500, 1000);
    let record = record(&[late]);
    assert!(record.latency_withheld.is_some());
    assert_eq!(record.bounds.p999_in_swaps.found_ms, None);
    assert_eq!(record.latency_ms.p50, None);
    assert_eq!(record.classes[&Class::GetKept].latency_ms.p99, None);
}

#[test]
fn a_generator_that_was_late_in_one_part_of_many_was_late() {
    let mut late = part(1000, 3);
    (late.lateness, late.asked.number) = (all(500, 1000), 2);
    let mut parts: Vec<Part> = (0..99).map(|_| part(1000, 3)).collect();
    parts.push(late);
    let record = record(&parts);
    assert_eq!(record.lateness_ms.p99, Some(1.0));
    let withheld = record.latency_withheld.unwrap();
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
        record(&[part])
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
    assert_eq!(read.asked, part.asked);
    assert_eq!(read.failed, part.failed);
    let (read, written) = (record(&[read]), record(&[part]));
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        serde_json::to_value(&written).unwrap()
    );
}
