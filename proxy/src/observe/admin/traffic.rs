//! Samples of the traffic in the last minutes, one a second, for the charts of the page.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::data_plane::TrafficTotals;
use crate::deployment::status::UnixMillis;
use crate::release::Generation;

/// Time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Number of samples that are kept, which is the width of the charts.
const SAMPLES: usize = 180;

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct TrafficHistory {
    samples: VecDeque<Sample>,
    before: TrafficTotals,
    /// Number of all samples that were taken.
    taken: u64,
}

/// The traffic of one second.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) at_ms: UnixMillis,
    /// Requests that are held, at its end.
    pub(super) held: usize,
    /// Open connections of clients, at its end.
    pub(super) connections: usize,
    /// Responses of each generation that sent any.
    pub(super) answers: BTreeMap<Generation, ResponseSample>,
    /// Number of responses of handoff itself, without an instance.
    pub(super) own: u64,
}

/// The responses of one generation in one second.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ResponseSample {
    pub(super) count: u64,
    /// Number of responses with a 5xx status.
    pub(super) errors: u64,
    /// Median of the response time in milliseconds.
    pub(super) p50_ms: f64,
    /// 99th percentile of the response time in milliseconds.
    pub(super) p99_ms: f64,
}

// === impl TrafficHistory ===

impl TrafficHistory {
    /// Takes the next sample.
    pub(super) fn record(&mut self, totals: TrafficTotals, held: usize) {
        let mut sample = Sample {
            at_ms: UnixMillis::now(),
            held,
            connections: totals.connections,
            answers: BTreeMap::new(),
            own: 0,
        };
        for (generation, answered) in &totals.responses {
            let before = self.before.responses.get(generation).copied();
            let more = answered.since(&before.unwrap_or_default());
            let milliseconds = |share| more.quantile(share).unwrap_or_default() * 1000.0;
            match generation {
                None => sample.own = more.all(),
                Some(_) if more.all() == 0 => {}
                Some(generation) => {
                    let answers = ResponseSample {
                        count: more.all(),
                        errors: more.by_class[4],
                        p50_ms: milliseconds(0.5),
                        p99_ms: milliseconds(0.99),
                    };
                    sample.answers.insert(*generation, answers);
                }
            }
        }
        self.before = totals;
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.taken += 1;
    }

    /// Returns the kept samples after the first `seen` of all samples, and the number of all samples.
    pub(super) fn since(&self, seen: u64) -> (impl Iterator<Item = &Sample>, u64) {
        let gone = self.taken - self.samples.len() as u64;
        let skip = usize::try_from(seen.saturating_sub(gone)).unwrap_or(usize::MAX);
        (self.samples.iter().skip(skip), self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_plane::ResponseTotals;

    #[test]
    fn a_sample_has_what_was_new_in_its_second() {
        let mut traffic = TrafficHistory::default();
        let mut totals = TrafficTotals::default();
        let mut answered = ResponseTotals::default();
        for count in [5, 5, 7] {
            answered.by_class = [0, count, 0, 0, count];
            answered.by_time[3] = 2 * count;
            totals.responses.insert(Some(Generation(1)), answered);
            totals.responses.insert(None, answered);
            traffic.record(totals.clone(), 3);
        }
        let (samples, taken) = traffic.since(0);
        let samples: Vec<_> = samples.collect();
        assert_eq!(taken, 3);
        let counts = samples.iter().map(|sample| {
            let answers = sample.answers.get(&Generation(1));
            answers.map(|answers| (answers.count, answers.errors))
        });
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts, [Some((10, 5)), None, Some((4, 2))]);
        assert_eq!((samples[2].own, samples[2].held), (4, 3));
        assert!(samples[2].answers[&Generation(1)].p50_ms > 1.0);
        assert_eq!(traffic.since(2).0.count(), 1);
        assert_eq!(traffic.since(3).0.count(), 0);

        for _ in 0..2 * SAMPLES {
            traffic.record(totals.clone(), 0);
        }
        assert_eq!(traffic.since(0).0.count(), SAMPLES);
    }
}
