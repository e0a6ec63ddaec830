//! Folds outcomes into counts and percentiles.

mod percentiles;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

pub use self::percentiles::Percentiles;
use crate::result::{Failed, Failure, Outcome};
use crate::traffic::{Call, Connection, Shot};

/// So many different failures are kept in words.
const EXAMPLES: usize = 12;

/// Latencies of requests that were due earlier are left out: caches fill, connections open.
pub const WARM_UP: Duration = Duration::from_secs(2);

/// Everything that was counted.
#[derive(Debug)]
pub struct Metrics {
    warm_up: Duration,
    samples: Vec<Sample>,
    failed: Failures,
    examples: Vec<Example>,
    reopened: u64,
    stall: Duration,
    lateness: Percentiles,
    recent: Percentiles,
    seen: BTreeMap<u32, Duration>,
}

/// A failure, and how often just that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    #[serde(flatten)]
    pub failed: Failed,
    pub count: u64,
    /// When it was first seen, in seconds from the start, and by which request.
    pub first_s: f64,
    pub first_request: String,
}

/// Failed requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures([u64; Failure::PLAIN.len()]);

/// Latencies of answered requests, by what they were and when.
#[derive(Debug, Clone)]
pub struct Latency {
    /// All but the slow ones.
    pub all: Percentiles,
    pub outside: ByConnection,
    pub within: ByConnection,
    /// Requests that asked for a slow answer: what they took beyond it.
    pub slow: Percentiles,
}

#[derive(Debug, Clone)]
pub struct ByConnection {
    pub kept: Percentiles,
    pub new: Percentiles,
}

/// The times in which a swap was under way, from the start of the attack, merged and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows(Vec<(Duration, Duration)>);

/// One answered request, as small as it gets: a run has millions.
#[derive(Debug, Clone, Copy)]
struct Sample {
    due_us: u64,
    ended_us: u64,
    latency_us: u64,
    connection: Connection,
    slow: bool,
}

// === impl Metrics ===

impl Metrics {
    /// Of requests that are due within `warm_up` only failures count.
    pub fn new(warm_up: Duration) -> Self {
        Self {
            warm_up,
            samples: Vec::new(),
            failed: Failures::default(),
            examples: Vec::new(),
            reopened: 0,
            stall: Duration::ZERO,
            lateness: Percentiles::new(),
            recent: Percentiles::new(),
            seen: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, outcome: &Outcome) {
        self.reopened += u64::from(outcome.reopened);
        self.lateness.record(outcome.lateness());
        if outcome.due >= self.warm_up || outcome.failed.is_some() {
            self.stall = self.stall.max(outcome.latency());
        }
        if let Some(release) = outcome.release {
            let first = self.seen.entry(release).or_insert(outcome.ended);
            *first = outcome.ended.min(*first);
        }
        if let Some(failed) = &outcome.failed {
            self.failed.0[failed.kind.plain() as usize] += 1;
            self.add_example(outcome, failed);
            // A refusal is quick: counted as latency, it would flatter.
            return;
        }
        let slow = matches!(outcome.shot.call, Call::Slow(_));
        if !slow {
            self.recent.record(outcome.latency());
        }
        self.samples.push(Sample {
            due_us: micros(outcome.due),
            ended_us: micros(outcome.ended),
            latency_us: micros(outcome.latency()),
            connection: outcome.shot.connection,
            slow,
        });
    }

    /// Requests that have ended, well or not.
    pub fn sent(&self) -> u64 {
        self.samples.len() as u64 + self.failed.total()
    }

    pub fn failed(&self) -> Failures {
        self.failed
    }

    /// The failures, in words.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Kept connections that the server closed while they were idle.
    pub fn reopened(&self) -> u64 {
        self.reopened
    }

    /// The longest that any request took from when it was due to its end, answer or failure, beyond
    /// the wait that it asked for itself.
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// The longest time in which no request became due that got a right answer.
    pub fn gap(&self) -> Duration {
        let mut due: Vec<u64> = self.samples.iter().map(|sample| sample.due_us).collect();
        due.sort_unstable();
        let gaps = due.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_micros(gaps.max().unwrap_or(0))
    }

    /// How late the generator itself was.
    pub fn lateness(&self) -> &Percentiles {
        &self.lateness
    }

    /// When an answer first named this release, from the start.
    pub fn seen(&self, release: u32) -> Option<Duration> {
        self.seen.get(&release).copied()
    }

    /// The newest release that an answer has named; 0 before the first.
    pub fn newest_seen(&self) -> u32 {
        self.seen
            .last_key_value()
            .map_or(0, |(release, _)| *release)
    }

    /// Latencies since the last call of this.
    pub fn take_recent(&mut self) -> Percentiles {
        std::mem::replace(&mut self.recent, Percentiles::new())
    }

    /// Latencies, split by whether a swap was under way at any time between due and answered.
    pub fn latency(&self, windows: &Windows) -> Latency {
        let mut latency = Latency {
            all: Percentiles::new(),
            outside: ByConnection::new(),
            within: ByConnection::new(),
            slow: Percentiles::new(),
        };
        let warm_up_us = micros(self.warm_up);
        for sample in self
            .samples
            .iter()
            .filter(|sample| sample.due_us >= warm_up_us)
        {
            let taken = Duration::from_micros(sample.latency_us);
            if sample.slow {
                latency.slow.record(taken);
                continue;
            }
            latency.all.record(taken);
            let due = Duration::from_micros(sample.due_us);
            let ended = Duration::from_micros(sample.ended_us);
            let part = if windows.touch(due, ended) {
                &mut latency.within
            } else {
                &mut latency.outside
            };
            match sample.connection {
                Connection::Kept => part.kept.record(taken),
                Connection::New => part.new.record(taken),
            }
        }
        latency
    }

    fn add_example(&mut self, outcome: &Outcome, failed: &Failed) {
        let known = self
            .examples
            .iter_mut()
            .find(|example| example.failed == *failed);
        if let Some(example) = known {
            example.count += 1;
        } else if self.examples.len() < EXAMPLES {
            let Shot {
                call, connection, ..
            } = outcome.shot;
            self.examples.push(Example {
                failed: failed.clone(),
                count: 1,
                first_s: (outcome.ended.as_secs_f64() * 1000.0).round() / 1000.0,
                first_request: format!("{} on a {} connection", call.name(), connection.word()),
            });
        }
    }
}

// === impl Failures ===

impl Failures {
    pub fn total(self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with its count, also those that did not happen.
    pub fn iter(self) -> impl Iterator<Item = (Failure, u64)> {
        Failure::PLAIN
            .into_iter()
            .map(move |kind| (kind, self.0[kind as usize]))
    }
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Failure::PLAIN.len()))?;
        for (kind, count) in self.iter() {
            map.serialize_entry(kind.word(), &count)?;
        }
        map.end()
    }
}

// === impl ByConnection ===

impl ByConnection {
    fn new() -> Self {
        Self {
            kept: Percentiles::new(),
            new: Percentiles::new(),
        }
    }

    /// Whatever the connection.
    pub fn both(&self) -> Percentiles {
        let mut both = self.kept.clone();
        both.merge(&self.new);
        both
    }
}

// === impl Windows ===

impl Windows {
    /// Merges what overlaps: the end of one swap may lie after the start of the next.
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

    /// Something of the time between `start` and `end` lies in a window.
    pub fn touch(&self, start: Duration, end: Duration) -> bool {
        let next = self.0.partition_point(|window| window.1 < start);
        self.0.get(next).is_some_and(|window| window.0 <= end)
    }
}

/// For whoever keeps many of them.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn outcome(connection: Connection, call: Call, due: u64, ended: u64) -> Outcome {
        Outcome {
            shot: Shot {
                seq: 0,
                connection,
                call,
            },
            due: ms(due),
            taken: ms(due + 1),
            began: ms(due + 1),
            ended: ms(ended),
            part_late: Duration::ZERO,
            release: Some(1),
            reopened: false,
            failed: None,
        }
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent() {
        let mut metrics = Metrics::new(Duration::ZERO);
        let mut stalled = outcome(Connection::Kept, Call::Home, 100, 5_100);
        stalled.taken = ms(5_099);
        metrics.add(&stalled);
        let all = metrics.latency(&Windows::default()).all;
        assert!((all.at(0.5).unwrap() - 5_000.0).abs() < 5.0);
        assert!((metrics.lateness().max().unwrap() - 4_999.0).abs() < 5.0);
    }

    #[test]
    fn the_warm_up_is_counted_and_is_no_latency() {
        let mut metrics = Metrics::new(ms(100));
        metrics.add(&outcome(Connection::Kept, Call::Home, 99, 5_000));
        metrics.add(&outcome(Connection::Kept, Call::Home, 100, 103));
        let all = metrics.latency(&Windows::default()).all;
        assert_eq!(
            (metrics.sent(), all.count(), metrics.stall()),
            (2, 1, ms(3))
        );
        let mut failed = outcome(Connection::Kept, Call::Home, 50, 4_050);
        failed.failed = Some(Failed::new(Failure::Reset, "so"));
        metrics.add(&failed);
        assert_eq!(metrics.stall(), ms(4_000), "a failure is one at any time");
    }

    #[test]
    fn requests_are_split_by_connection_and_by_the_swaps_that_they_touch() {
        let windows = Windows::merge(vec![(ms(100), ms(200))]);
        let mut metrics = Metrics::new(Duration::ZERO);
        for (connection, due, ended) in [
            (Connection::Kept, 90, 99),
            (Connection::Kept, 90, 100),
            (Connection::Kept, 200, 202),
            (Connection::New, 50, 900),
            (Connection::New, 201, 202),
        ] {
            metrics.add(&outcome(connection, Call::Version, due, ended));
        }
        metrics.add(&outcome(Connection::New, Call::Slow(ms(1000)), 150, 1153));
        let latency = metrics.latency(&windows);
        let counts = [
            &latency.all,
            &latency.outside.kept,
            &latency.outside.new,
            &latency.within.kept,
            &latency.within.new,
        ]
        .map(Percentiles::count);
        assert_eq!(counts, [5, 1, 1, 2, 1]);
        assert!(
            (latency.slow.max().unwrap() - 3.0).abs() < 0.01,
            "the asked wait is no latency"
        );
    }

    #[test]
    fn failures_are_counted_by_kind_and_are_not_latency() {
        let mut metrics = Metrics::new(Duration::ZERO);
        for kind in [Failure::Reset, Failure::Wrong, Failure::Reset] {
            let mut failed = outcome(Connection::Kept, Call::Home, 0, 0);
            failed.release = None;
            failed.failed = Some(Failed::new(kind, "so"));
            metrics.add(&failed);
        }
        metrics.add(&outcome(Connection::Kept, Call::Home, 10, 20));
        assert_eq!(metrics.sent(), 4);
        assert_eq!(metrics.failed().total(), 3);
        assert_eq!(metrics.latency(&Windows::default()).all.count(), 1);
        assert_eq!(
            serde_json::to_string(&metrics.failed()).unwrap(),
            r#"{"refused":0,"reset":2,"timeout":0,"status":0,"truncated":0,"wrong":1}"#
        );
        let counts: Vec<(Failure, u64)> = metrics
            .examples()
            .iter()
            .map(|example| (example.failed.kind, example.count))
            .collect();
        assert_eq!(counts, [(Failure::Reset, 2), (Failure::Wrong, 1)]);
        assert_eq!(
            metrics.examples()[0].first_request,
            "GET / on a kept connection"
        );
    }

    #[test]
    fn a_failure_that_took_long_is_a_stall_and_an_asked_wait_is_none() {
        let mut metrics = Metrics::new(Duration::ZERO);
        metrics.add(&outcome(Connection::New, Call::Slow(ms(9_000)), 0, 9_100));
        assert_eq!(metrics.stall(), ms(100));
        let mut failed = outcome(Connection::New, Call::Home, 1_000, 4_000);
        failed.failed = Some(Failed::new(Failure::Timeout, "no answer"));
        metrics.add(&failed);
        assert_eq!(metrics.stall(), ms(3_000));
        metrics.add(&outcome(Connection::Kept, Call::Home, 5_000, 5_001));
        assert_eq!(metrics.stall(), ms(3_000));
    }

    #[test]
    fn the_longest_gap_lies_between_the_due_times_of_right_answers() {
        let mut metrics = Metrics::new(Duration::ZERO);
        assert_eq!(metrics.gap(), ms(0));
        for (due, ended) in [(300, 350), (0, 1_000), (1_000, 1_001), (400, 9_000)] {
            metrics.add(&outcome(Connection::New, Call::Home, due, ended));
        }
        let mut failed = outcome(Connection::New, Call::Home, 700, 701);
        failed.failed = Some(Failed::new(Failure::Refused, "no connection"));
        metrics.add(&failed);
        assert_eq!(metrics.gap(), ms(600), "a failure is no answer");
    }

    #[test]
    fn a_release_is_seen_when_its_first_answer_came() {
        let mut metrics = Metrics::new(Duration::ZERO);
        assert_eq!(metrics.newest_seen(), 0);
        for (release, ended) in [(1, 10), (2, 30), (2, 25), (1, 40)] {
            let mut outcome = outcome(Connection::New, Call::Home, 0, ended);
            outcome.release = Some(release);
            metrics.add(&outcome);
        }
        assert_eq!(
            (metrics.seen(1), metrics.seen(2), metrics.seen(3)),
            (Some(ms(10)), Some(ms(25)), None)
        );
        assert_eq!(metrics.newest_seen(), 2);
    }

    #[test]
    fn windows_that_overlap_are_one() {
        let windows = Windows::merge(vec![
            (ms(50), ms(60)),
            (ms(0), ms(10)),
            (ms(5), ms(20)),
            (ms(20), ms(30)),
        ]);
        assert_eq!(windows, Windows(vec![(ms(0), ms(30)), (ms(50), ms(60))]));
        for (start, end, touches) in [
            (31, 49, false),
            (30, 31, true),
            (31, 50, true),
            (40, 70, true),
            (61, 99, false),
            (0, 0, true),
        ] {
            assert_eq!(
                windows.touch(ms(start), ms(end)),
                touches,
                "{start} to {end}"
            );
        }
    }

    #[test]
    fn percentiles_are_precise_and_absent_without_requests() {
        let mut percentiles = Percentiles::new();
        assert_eq!((percentiles.at(0.5), percentiles.max()), (None, None));
        for value in 1..=1000 {
            percentiles.record(ms(value));
        }
        for (quantile, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = percentiles.at(quantile).unwrap();
            assert!(
                (found - expected).abs() <= expected / 1000.0,
                "{quantile}: {found}"
            );
        }
        percentiles.record(Duration::from_secs(3600));
        assert!(
            percentiles.max().unwrap() >= 120_000.0,
            "what is too long is not lost"
        );
    }
}
