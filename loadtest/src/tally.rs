//! Outcomes, counted by class of traffic, connection, time and swap.

use std::collections::BTreeMap;
use std::time::Duration;

use sample_app::journal::Entry;
use serde::{Deserialize, Serialize};

use crate::generator::failure::{Failed, Failure};
use crate::generator::mix::Class;
use crate::generator::outcome::Outcome;
use crate::generator::request::{Connection, Request};
use crate::histogram::Histogram;
use crate::ledger::{self, Account, Sample};
use crate::units::micros;

/// Length of one point of the latency over time.
pub const MOMENT: Duration = Duration::from_millis(500);

/// Maximum number of failures that are kept in words.
const EXAMPLES: usize = 20;

/// The outcomes so far.
#[derive(Debug)]
pub struct Tally {
    /// Time at the start of which only failures count.
    warm_up: Duration,
    samples: Vec<Sample>,
    /// Failures by the number of the request.
    failed: BTreeMap<u64, Failed>,
    /// Times of the first answers of each release.
    seen: BTreeMap<u32, Duration>,
    reopened: u64,
    lateness: Histogram,
    recent: Histogram,
}

/// The complete counts.
#[derive(Debug)]
pub struct Counts {
    pub failed: BTreeMap<Failure, u64>,
    pub examples: Vec<Example>,
    /// Idempotent requests that arrived twice, as they may.
    pub sent_again: u64,
    /// Lines of the journal that belong to no request.
    pub strangers: Vec<String>,
    pub classes: Vec<ClassCounts>,
    pub moments: Vec<Moment>,
    /// Longest time from due to the end, of answers and failures, beyond the wait asked for.
    pub stall: Duration,
    /// Longest time in which no request became due that got a right answer.
    pub gap: Duration,
}

/// A failure and how often it was seen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Example {
    #[serde(flatten)]
    pub failed: Failed,
    pub count: u64,
    /// Time of the first one, in seconds from the start.
    pub first_s: f64,
    /// Request of the first one.
    pub first_request: String,
}

/// Counts of one class on one kind of connection. The histograms are of answered requests after the
/// warm-up.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClassCounts {
    pub class: Class,
    pub connection: Connection,
    pub sent: u64,
    pub failed: u64,
    /// Time from when each was due.
    pub latency: Histogram,
    /// Time from when each was begun.
    pub service: Histogram,
    pub outside: Histogram,
    pub in_swaps: Histogram,
    pub in_controls: Histogram,
}

/// Half a second of quick requests. Times in milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Moment {
    /// Its middle, in seconds from the start.
    pub at_s: f64,
    pub count: u64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
    pub failed: BTreeMap<Failure, u64>,
}

/// Times in which a swap was under way, merged and in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Windows(Vec<(Duration, Duration)>);

// === impl Tally ===

impl Tally {
    pub fn new(warm_up: Duration) -> Self {
        Self {
            warm_up,
            samples: Vec::new(),
            failed: BTreeMap::new(),
            seen: BTreeMap::new(),
            reopened: 0,
            lateness: Histogram::default(),
            recent: Histogram::default(),
        }
    }

    /// Counts one outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        self.reopened += u64::from(outcome.is_reopened);
        self.lateness.record(outcome.lateness());
        if let Some(release) = outcome.release {
            let first = self.seen.entry(release).or_insert(outcome.ended);
            *first = outcome.ended.min(*first);
        }
        if let Some(failed) = &outcome.failed {
            self.failed.insert(outcome.request.seq, failed.clone());
        } else if Class::of(&outcome.request).is_quick() {
            self.recent.record(outcome.latency());
        }
        self.samples.push(Sample {
            request: outcome.request,
            due_us: micros(outcome.due),
            ended_us: micros(outcome.ended),
            latency_us: micros(outcome.latency()),
            service_us: micros(outcome.service()),
            release: outcome.release,
            failed: outcome.failed.as_ref().map(|failed| failed.kind),
        });
    }

    /// Returns the number of requests that have ended, well or not.
    pub fn sent(&self) -> u64 {
        self.samples.len() as u64
    }

    /// Returns the number of failures that clients saw.
    pub fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Returns the number of kept connections that the server closed while they were idle.
    pub fn reopened(&self) -> u64 {
        self.reopened
    }

    /// Returns the lateness of the generator itself.
    pub fn lateness(&self) -> &Histogram {
        &self.lateness
    }

    /// Returns the time of the first answer that named this release.
    pub fn seen(&self, release: u32) -> Option<Duration> {
        self.seen.get(&release).copied()
    }

    /// Returns the newest release that an answer has named; 0 before the first.
    pub fn newest_seen(&self) -> u32 {
        self.seen
            .last_key_value()
            .map_or(0, |(release, _)| *release)
    }

    /// Returns the latencies since the last call.
    pub fn take_recent(&mut self) -> Histogram {
        std::mem::take(&mut self.recent)
    }

    /// Joins the outcomes with the journal, if there is one, and sorts them.
    pub fn count(
        mut self,
        journal: Option<&[Entry]>,
        swaps: &Windows,
        controls: &Windows,
    ) -> Counts {
        let account = journal.map(|journal| ledger::settle(&self.samples, journal));
        let Account {
            failed,
            sent_again,
            strangers,
        } = account.unwrap_or_default();
        self.failed.extend(failed);
        self.samples.sort_unstable_by_key(|sample| sample.ended_us);

        let mut classes: BTreeMap<_, ClassCounts> = BTreeMap::new();
        let mut kinds = BTreeMap::new();
        let mut examples = Vec::new();
        let mut moments = Moments::default();
        let mut stall = Duration::ZERO;
        let mut right = Vec::new();
        for sample in &self.samples {
            let class = Class::of(&sample.request);
            let key = (class, sample.request.connection);
            let counts = classes
                .entry(key)
                .or_insert_with(|| ClassCounts::new(key.0, key.1));
            counts.sent += 1;
            let (due, ended) = (time(sample.due_us), time(sample.ended_us));
            let latency = time(sample.latency_us);
            if let Some(failed) = self.failed.get(&sample.request.seq) {
                counts.failed += 1;
                *kinds.entry(failed.kind).or_default() += 1;
                *moments.at(sample).failed.entry(failed.kind).or_default() += 1;
                add_example(&mut examples, sample, failed);
                stall = stall.max(latency);
                // A refusal is quick: counted as latency, it would flatter.
                continue;
            }
            right.push(sample.due_us);
            if due < self.warm_up {
                continue;
            }
            stall = stall.max(latency);
            if class.is_quick() {
                moments.at(sample).latency.record(latency);
            }
            counts.latency.record(latency);
            counts.service.record(time(sample.service_us));
            let window = if swaps.touch(due, ended) {
                &mut counts.in_swaps
            } else if controls.touch(due, ended) {
                &mut counts.in_controls
            } else {
                &mut counts.outside
            };
            window.record(latency);
        }
        right.sort_unstable();
        let gap = right.windows(2).map(|pair| pair[1] - pair[0]).max();
        Counts {
            failed: kinds,
            examples,
            sent_again,
            strangers,
            classes: classes.into_values().collect(),
            moments: moments.finish(),
            stall,
            gap: time(gap.unwrap_or(0)),
        }
    }
}

fn add_example(examples: &mut Vec<Example>, sample: &Sample, failed: &Failed) {
    // Details name requests; failures that differ in numbers only are alike.
    let words = |detail: &str| detail.replace(|c: char| c.is_ascii_digit(), "");
    let is_alike = |known: &&mut Example| {
        known.failed.kind == failed.kind && words(&known.failed.detail) == words(&failed.detail)
    };
    if let Some(known) = examples.iter_mut().find(is_alike) {
        known.count += 1;
    } else if examples.len() < EXAMPLES {
        let Request {
            call, connection, ..
        } = sample.request;
        examples.push(Example {
            failed: failed.clone(),
            count: 1,
            first_s: (sample.ended_us / 1000) as f64 / 1000.0,
            first_request: format!("{} on a {} connection", call.name(), connection.word()),
        });
    }
}

fn time(us: u64) -> Duration {
    Duration::from_micros(us)
}

// === impl ClassCounts ===

impl ClassCounts {
    pub fn new(class: Class, connection: Connection) -> Self {
        Self {
            class,
            connection,
            sent: 0,
            failed: 0,
            latency: Histogram::default(),
            service: Histogram::default(),
            outside: Histogram::default(),
            in_swaps: Histogram::default(),
            in_controls: Histogram::default(),
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.outside.merge(&other.outside);
        self.in_swaps.merge(&other.in_swaps);
        self.in_controls.merge(&other.in_controls);
    }
}

/// Moments so far; samples come in the order in which they ended.
#[derive(Default)]
struct Moments {
    done: Vec<Moment>,
    current: Option<OpenMoment>,
}

struct OpenMoment {
    number: u64,
    latency: Histogram,
    failed: BTreeMap<Failure, u64>,
}

// === impl Moments ===

impl Moments {
    fn at(&mut self, sample: &Sample) -> &mut OpenMoment {
        let number = sample.ended_us / micros(MOMENT);
        if self
            .current
            .as_ref()
            .is_some_and(|now| now.number != number)
        {
            self.close();
        }
        self.current.get_or_insert_with(|| OpenMoment {
            number,
            latency: Histogram::default(),
            failed: BTreeMap::new(),
        })
    }

    fn close(&mut self) {
        let Some(open) = self.current.take() else {
            return;
        };
        self.done.push(Moment {
            at_s: (open.number as f64 + 0.5) * MOMENT.as_secs_f64(),
            count: open.latency.count(),
            p50: open.latency.at(0.5),
            p99: open.latency.at(0.99),
            max: open.latency.max(),
            failed: open.failed,
        });
    }

    fn finish(mut self) -> Vec<Moment> {
        self.close();
        self.done
    }
}

// === impl Windows ===

impl Windows {
    /// Merges overlapping ones: the end of one swap may lie after the start of the next.
    pub fn merge(mut windows: Vec<(Duration, Duration)>) -> Self {
        windows.sort_unstable();
        let mut merged: Vec<(Duration, Duration)> = Vec::with_capacity(windows.len());
        for (start, end) in windows {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// Tells whether a part of the time from `start` to `end` lies in a window.
    pub fn touch(&self, start: Duration, end: Duration) -> bool {
        let next = self.0.partition_point(|window| window.1 < start);
        self.0.get(next).is_some_and(|window| window.0 <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::request::Call;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn outcome(seq: u64, call: Call, due: u64, took: u64) -> Outcome {
        Outcome {
            request: Request {
                seq,
                connection: Connection::Kept,
                call,
            },
            due: ms(due),
            taken: ms(due + 1),
            began: ms(due + 1),
            ended: ms(due + took),
            part_late: Duration::ZERO,
            release: Some(1),
            is_reopened: false,
            failed: None,
        }
    }

    fn failed(kind: Failure, seq: u64, due: u64, took: u64) -> Outcome {
        Outcome {
            release: None,
            failed: Some(Failed::new(kind, "so")),
            ..outcome(seq, Call::Home, due, took)
        }
    }

    fn window(from: u64, to: u64) -> Windows {
        Windows::merge(vec![(ms(from), ms(to))])
    }

    fn counts(outcomes: &[Outcome], journal: Option<&[&str]>) -> Counts {
        let mut tally = Tally::new(ms(2_000));
        outcomes.iter().for_each(|outcome| tally.add(outcome));
        let parse = |lines: &[&str]| -> Vec<Entry> {
            lines.iter().map(|line| line.parse().unwrap()).collect()
        };
        let journal = journal.map(parse);
        let (swaps, controls) = (window(5_000, 6_000), window(7_000, 8_000));
        tally.count(journal.as_deref(), &swaps, &controls)
    }

    #[test]
    fn requests_are_counted_by_class_and_window_without_the_warm_up() {
        let mut outcomes: Vec<Outcome> = [10, 2_500, 4_999, 6_500, 7_500]
            .into_iter()
            .enumerate()
            .map(|(seq, due)| outcome(seq as u64, Call::Version, due, 5))
            .collect();
        outcomes.push(outcome(5, Call::Upload(1), 5_100, 30));
        let lines = (0..5).map(|seq| format!("{seq} GET /version v1 17"));
        let lines: Vec<String> = lines.chain(["5 POST /upload v1 17".to_owned()]).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let counts = counts(&outcomes, Some(&lines));
        assert_eq!(counts.failed, BTreeMap::new());
        let [gets, posts] = &counts.classes[..] else {
            panic!("{:?}", counts.classes);
        };
        let parts = |class: &ClassCounts| {
            let parts = [
                &class.latency,
                &class.outside,
                &class.in_swaps,
                &class.in_controls,
            ];
            (class.sent, parts.map(Histogram::count))
        };
        assert_eq!(parts(gets), (5, [4, 2, 1, 1]));
        assert_eq!(parts(posts), (1, [1, 0, 1, 0]));
        let (latency, service) = (posts.latency.max().unwrap(), posts.service.max().unwrap());
        assert!((latency - 30.0).abs() < 0.1 && (service - 29.0).abs() < 0.1);
    }

    #[test]
    fn what_only_the_journal_shows_is_a_failure_of_its_time_and_class() {
        let outcomes = [
            outcome(0, Call::Upload(1), 5_100, 5),
            outcome(1, Call::Version, 9_100, 5),
        ];
        let counts = counts(&outcomes, Some(&["0 POST /upload v1 17"; 2]));
        let kinds = [(Failure::Repeated, 1), (Failure::Lost, 1)];
        assert_eq!(counts.failed, BTreeMap::from(kinds));
        let moments = counts.moments.iter();
        let moments: Vec<_> = moments
            .map(|m| (m.at_s, m.failed.clone(), m.count))
            .collect();
        let failed = |kind| BTreeMap::from([(kind, 1)]);
        assert_eq!(
            moments,
            [
                (5.25, failed(Failure::Repeated), 0),
                (9.25, failed(Failure::Lost), 0)
            ]
        );
        assert_eq!(counts.examples.len(), 2);
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent() {
        let mut stalled = outcome(0, Call::Home, 3_100, 5_000);
        stalled.taken = ms(8_099);
        let mut tally = Tally::new(ms(2_000));
        tally.add(&stalled);
        assert!((tally.lateness().max().unwrap() - 4_999.0).abs() < 5.0);
        let none = Windows::default();
        let all = &tally.count(None, &none, &none).classes[0].latency;
        assert!((all.at(0.5).unwrap() - 5_000.0).abs() < 5.0);
    }

    #[test]
    fn failures_are_counted_by_kind_and_are_not_latency() {
        let kinds = [Failure::Reset, Failure::Wrong, Failure::Reset];
        let mut outcomes: Vec<Outcome> = kinds
            .into_iter()
            .enumerate()
            .map(|(seq, kind)| failed(kind, seq as u64, 10, 5))
            .collect();
        outcomes.push(outcome(3, Call::Home, 3_000, 20));
        let counts = counts(&outcomes, None);
        let expected = [(Failure::Reset, 2), (Failure::Wrong, 1)];
        assert_eq!(counts.failed, expected.into());
        assert_eq!(counts.classes[0].latency.count(), 1);
        let examples = counts.examples.iter();
        let examples: Vec<_> = examples.map(|e| (e.failed.kind, e.count)).collect();
        assert_eq!(examples, expected);
        let first = &counts.examples[0].first_request;
        assert_eq!(first, "GET / on a kept connection");
    }

    #[test]
    fn a_failure_that_took_long_is_a_stall_and_an_asked_wait_is_none() {
        let stall = |outcomes: &[Outcome]| counts(outcomes, None).stall;
        let slow = || outcome(0, Call::Slow(ms(9_000)), 3_000, 9_100);
        assert_eq!(stall(&[slow()]), ms(100));
        let timeout = failed(Failure::Timeout, 1, 1_000, 3_000);
        let quick = outcome(2, Call::Home, 5_000, 1);
        assert_eq!(stall(&[slow(), timeout, quick]), ms(3_000));
    }

    #[test]
    fn the_longest_gap_lies_between_the_due_times_of_right_answers() {
        assert_eq!(counts(&[], None).gap, ms(0));
        let mut outcomes: Vec<Outcome> = [(300, 50), (0, 1_000), (1_000, 1), (400, 8_600)]
            .into_iter()
            .enumerate()
            .map(|(seq, (due, took))| outcome(seq as u64, Call::Home, due, took))
            .collect();
        outcomes.push(failed(Failure::Refused, 9, 700, 1));
        assert_eq!(
            counts(&outcomes, None).gap,
            ms(600),
            "a failure is no answer"
        );
    }

    #[test]
    fn a_release_is_seen_when_its_first_answer_came() {
        let mut tally = Tally::new(Duration::ZERO);
        assert_eq!(tally.newest_seen(), 0);
        for (release, ended) in [(1, 10), (2, 30), (2, 20), (1, 40)] {
            let mut outcome = outcome(0, Call::Home, 0, ended);
            outcome.release = Some(release);
            tally.add(&outcome);
        }
        assert_eq!((tally.newest_seen(), tally.seen(2)), (2, Some(ms(20))));
        assert_eq!(tally.seen(3), None);
    }

    #[test]
    fn overlapping_windows_are_one() {
        let windows = vec![(ms(50), ms(60)), (ms(0), ms(20)), (ms(10), ms(30))];
        let windows = Windows::merge(windows);
        assert_eq!(windows.0, [(ms(0), ms(30)), (ms(50), ms(60))]);
        for (start, end, touches) in [
            (0, 0, true),
            (31, 49, false),
            (31, 50, true),
            (61, 99, false),
        ] {
            assert_eq!(windows.touch(ms(start), ms(end)), touches, "{start} {end}");
        }
    }
}
