//! Folds outcomes into what a part keeps of them.

use std::collections::BTreeMap;
use std::time::Duration;

use sample_app::journal::Entry;

use super::ledger;
use super::part::{ClassPart, Moment};
use crate::metrics::{Example, Metrics, Percentiles, WARM_UP, Windows, micros};
use crate::result::{Failed, Failure, Outcome};
use crate::traffic::Shot;

/// One point of the latency over time.
pub const MOMENT: Duration = Duration::from_millis(500);

/// So many different failures are kept in words.
const EXAMPLES: usize = 20;

/// One request, as small as it gets.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub shot: Shot,
    pub due_us: u64,
    pub ended_us: u64,
    pub latency_us: u64,
    pub service_us: u64,
    pub release: Option<u32>,
    /// What its client saw.
    pub failed: Option<Failure>,
}

/// Outcomes so far.
#[derive(Debug)]
pub struct Tally {
    /// For what is shown meanwhile.
    pub metrics: Metrics,
    samples: Vec<Sample>,
    failed: BTreeMap<u64, Failed>,
}

/// All that was counted.
#[derive(Debug)]
pub struct Counted {
    pub failed: BTreeMap<Failure, u64>,
    pub examples: Vec<Example>,
    pub sent_again: u64,
    pub strangers: Vec<String>,
    pub classes: Vec<ClassPart>,
    pub moments: Vec<Moment>,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            metrics: Metrics::new(WARM_UP),
            samples: Vec::new(),
            failed: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, outcome: &Outcome) {
        self.metrics.add(outcome);
        self.samples.push(Sample {
            shot: outcome.shot,
            due_us: micros(outcome.due),
            ended_us: micros(outcome.ended),
            latency_us: micros(outcome.latency()),
            service_us: micros(outcome.service()),
            release: outcome.release,
            failed: outcome.failed.as_ref().map(|failed| failed.kind),
        });
        if let Some(failed) = &outcome.failed {
            self.failed.insert(outcome.shot.seq, failed.clone());
        }
    }

    /// Joins what was seen with the journal, and sorts it by class, time and window.
    pub fn count(mut self, journal: &[Entry], swaps: &Windows, shams: &Windows) -> Counted {
        let account = ledger::settle(&self.samples, journal);
        self.failed.extend(account.failed);
        self.samples.sort_unstable_by_key(|sample| sample.ended_us);

        let mut classes: BTreeMap<_, ClassPart> = BTreeMap::new();
        let mut kinds = BTreeMap::new();
        let mut examples = Vec::new();
        let mut moments = Moments::default();
        for sample in &self.samples {
            let class = sample.shot.class();
            let part = classes
                .entry(class)
                .or_insert_with(|| ClassPart::new(class));
            part.sent += 1;
            if let Some(failed) = self.failed.get(&sample.shot.seq) {
                part.failed += 1;
                *kinds.entry(failed.kind).or_default() += 1;
                moments.at(sample).failed(failed.kind);
                add_example(&mut examples, sample, failed);
                // A refusal is quick: counted as latency, it would flatter.
                continue;
            }
            let (due, ended) = (time(sample.due_us), time(sample.ended_us));
            if due < WARM_UP {
                continue;
            }
            let latency = time(sample.latency_us);
            if class.is_quick() {
                moments.at(sample).latency.record(latency);
            }
            part.latency.record(latency);
            part.service.record(time(sample.service_us));
            let window = if swaps.touch(due, ended) {
                &mut part.in_swaps
            } else if shams.touch(due, ended) {
                &mut part.in_shams
            } else {
                &mut part.outside
            };
            window.record(latency);
        }
        Counted {
            failed: kinds,
            examples,
            sent_again: account.sent_again,
            strangers: account.strangers,
            classes: classes.into_values().collect(),
            moments: moments.finish(),
        }
    }
}

/// Whatever ended within one moment, in order.
#[derive(Default)]
struct Moments {
    done: Vec<Moment>,
    now: Option<Open>,
}

struct Open {
    number: u64,
    latency: Percentiles,
    failed: BTreeMap<Failure, u64>,
}

impl Moments {
    fn at(&mut self, sample: &Sample) -> &mut Open {
        let number = sample.ended_us / micros(MOMENT);
        if self.now.as_ref().is_some_and(|now| now.number != number) {
            self.close();
        }
        self.now.get_or_insert_with(|| Open {
            number,
            latency: Percentiles::new(),
            failed: BTreeMap::new(),
        })
    }

    fn close(&mut self) {
        let Some(now) = self.now.take() else {
            return;
        };
        self.done.push(Moment {
            at_s: (now.number as f64 + 0.5) * MOMENT.as_secs_f64(),
            count: now.latency.count(),
            p50: now.latency.at(0.5),
            p99: now.latency.at(0.99),
            max: now.latency.max(),
            failed: now.failed,
        });
    }

    fn finish(mut self) -> Vec<Moment> {
        self.close();
        self.done
    }
}

impl Open {
    fn failed(&mut self, kind: Failure) {
        *self.failed.entry(kind).or_default() += 1;
    }
}

fn add_example(examples: &mut Vec<Example>, sample: &Sample, failed: &Failed) {
    // Details name the request, so each kind of each call is told once.
    let request = format!(
        "{}, {}",
        sample.shot.call.name(),
        sample.shot.class().name()
    );
    let known = examples
        .iter_mut()
        .find(|known| known.failed.kind == failed.kind && known.first_request == request);
    if let Some(known) = known {
        known.count += 1;
    } else if examples.len() < EXAMPLES {
        examples.push(Example {
            failed: failed.clone(),
            count: 1,
            first_s: (sample.ended_us / 1000) as f64 / 1000.0,
            first_request: request,
        });
    }
}

fn time(us: u64) -> Duration {
    Duration::from_micros(us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Call, Connection};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn outcome(seq: u64, call: Call, due: u64, took: u64) -> Outcome {
        Outcome {
            shot: Shot {
                seq,
                connection: Connection::Kept,
                call,
            },
            due: ms(due),
            taken: ms(due),
            began: ms(due + 1),
            ended: ms(due + took),
            part_late: Duration::ZERO,
            release: Some(1),
            reopened: false,
            failed: None,
        }
    }

    fn window(from: u64, to: u64) -> Windows {
        Windows::merge(vec![(ms(from), ms(to))])
    }

    fn counted(outcomes: &[Outcome], journal: &[&str]) -> Counted {
        let mut tally = Tally::new();
        outcomes.iter().for_each(|outcome| tally.add(outcome));
        let journal: Vec<Entry> = journal.iter().map(|line| line.parse().unwrap()).collect();
        tally.count(&journal, &window(5_000, 6_000), &window(7_000, 8_000))
    }

    fn part(class: &ClassPart) -> [u64; 5] {
        let quantiles = [
            &class.latency,
            &class.outside,
            &class.in_swaps,
            &class.in_shams,
        ];
        let [all, outside, swaps, shams] = quantiles.map(Percentiles::count);
        [class.sent, all, outside, swaps, shams]
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
        let counted = counted(&outcomes, &lines);
        assert_eq!(counted.failed, BTreeMap::new());
        let [gets, posts] = &counted.classes[..] else {
            panic!("{:?}", counted.classes);
        };
        assert_eq!(part(gets), [5, 4, 2, 1, 1]);
        assert_eq!(part(posts), [1, 1, 0, 1, 0]);
        let (latency, service) = (posts.latency.max().unwrap(), posts.service.max().unwrap());
        assert!((latency - 30.0).abs() < 0.1 && (service - 29.0).abs() < 0.1);
    }

    #[test]
    fn what_only_the_journal_shows_is_a_failure_of_its_time_and_class() {
        let outcomes = [
            outcome(0, Call::Upload(1), 5_100, 5),
            outcome(1, Call::Version, 9_100, 5),
        ];
        let counted = counted(&outcomes, &["0 POST /upload v1 17"; 2]);
        let kinds = [(Failure::Repeated, 1), (Failure::Lost, 1)];
        assert_eq!(counted.failed, BTreeMap::from(kinds));
        let moments: Vec<_> = counted
            .moments
            .iter()
            .map(|moment| (moment.at_s, moment.failed.clone(), moment.count))
            .collect();
        let failed = |kind| BTreeMap::from([(kind, 1)]);
        assert_eq!(
            moments,
            [
                (5.25, failed(Failure::Repeated), 0),
                (9.25, failed(Failure::Lost), 0)
            ]
        );
        assert_eq!(counted.examples.len(), 2);
    }
}
