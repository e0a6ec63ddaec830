//! The last minutes of the traffic, a sample a second, for the page's charts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::data_plane::TrafficTotals;
use crate::deployment::status::UnixMillis;
use crate::release::Generation;

/// From one sample to the next.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// So many are kept: what the page has room for.
const SAMPLES: usize = 180;

/// The samples.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    samples: VecDeque<Sample>,
    before: TrafficTotals,
    /// How many samples were taken in all.
    taken: u64,
}

/// What happened in one second.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) at_ms: UnixMillis,
    /// Requests that wait for an instance, at its end.
    pub(super) held: usize,
    /// Connections of clients, at its end.
    pub(super) connections: usize,
    /// What each generation answered; those that answered nothing are not there.
    pub(super) answers: BTreeMap<Generation, Answers>,
    /// How many answers were our own, for want of an instance.
    pub(super) own: u64,
}

/// What one generation answered in it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Answers {
    pub(super) count: u64,
    /// How many of them were 5xx.
    pub(super) errors: u64,
    /// The time within which half of them came, and 99 of 100, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

// === impl Traffic ===

impl Traffic {
    /// Takes the next sample.
    pub(super) fn look_at(&mut self, totals: TrafficTotals, held: usize) {
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
                    let answers = Answers {
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

    /// The samples that are kept of those after the first `seen`, and how many were taken in all.
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
        let mut traffic = Traffic::default();
        let mut totals = TrafficTotals::default();
        let mut answered = ResponseTotals::default();
        for count in [5, 5, 7] {
            answered.by_class = [0, count, 0, 0, count];
            answered.by_time[3] = 2 * count;
            totals.responses.insert(Some(Generation(1)), answered);
            totals.responses.insert(None, answered);
            traffic.look_at(totals.clone(), 3);
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
            traffic.look_at(totals.clone(), 0);
        }
        assert_eq!(traffic.since(0).0.count(), SAMPLES);
    }
}
