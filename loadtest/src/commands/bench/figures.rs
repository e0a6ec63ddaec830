//! The figures of a case: medians of its rounds, and whether the rounds agree.

use serde::Serialize;

use crate::cli::bench::{CaseName, TargetName, name_of};
use crate::units::median;

/// Maximum ratio of a target's rounds whose figures are quoted.
const DISAGREE: f64 = 1.2;

/// One target in one round, or the medians of its rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    pub rps: f64,
    /// Processor time for each request, of the proxy's processes, in microseconds.
    pub cpu_us: f64,
    /// Time of a request, as the tool measures it.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Largest memory of the round.
    pub rss_kib: f64,
}

/// One target in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: TargetName,
    pub median: Option<Sample>,
    /// Latency over that of the direct way in the same round, median.
    pub p50_added_ms: Option<f64>,
    pub p99_added_ms: Option<f64>,
    /// handoff's processor time over this target's, median of the rounds.
    pub handoff_ratio: Option<f64>,
    /// Ratio of its rounds; see [`spread`] and [`halves`].
    pub spread: Option<f64>,
    /// Failure of this target.
    pub failed: Option<String>,
    pub rounds: Vec<Sample>,
}

/// A case with all its targets, of which the first is the direct way.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub name: CaseName,
    /// Offered rate, unless it was as many requests as possible.
    pub offered_rps: Option<f64>,
    pub connections: usize,
    pub targets: Vec<Row>,
}

impl Case {
    /// Fills in what compares a target with the direct way and with handoff.
    pub fn compare(&mut self) {
        let rounds_of = |name| {
            let row = self.targets.iter().find(|row| row.name == name);
            row.map(|row| row.rounds.clone()).unwrap_or_default()
        };
        let (direct, handoff) = (
            rounds_of(TargetName::Direct),
            rounds_of(TargetName::Handoff),
        );
        for row in &mut self.targets {
            let rounds = &row.rounds;
            let of = |value: fn(&Sample) -> f64| median(rounds.iter().map(value));
            let added = |value: fn(&Sample) -> f64| {
                let both = rounds.iter().zip(&direct);
                median(both.map(|(own, direct)| value(own) - value(direct)))
            };
            let both = handoff
                .iter()
                .zip(rounds)
                .filter(|(_, own)| own.cpu_us > 0.0);
            row.handoff_ratio = median(both.map(|(handoff, own)| handoff.cpu_us / own.cpu_us));
            row.p50_added_ms = added(|sample| sample.p50_ms);
            row.p99_added_ms = added(|sample| sample.p99_ms);
            row.median = of(|sample| sample.rps).map(|rps| Sample {
                rps,
                cpu_us: of(|sample| sample.cpu_us).unwrap_or_default(),
                p50_ms: of(|sample| sample.p50_ms).unwrap_or_default(),
                p99_ms: of(|sample| sample.p99_ms).unwrap_or_default(),
                rss_kib: of(|sample| sample.rss_kib).unwrap_or_default(),
            });
            let all = |value: fn(&Sample) -> f64| Vec::from_iter(rounds.iter().map(value));
            row.spread = if self.offered_rps.is_some() {
                halves(&all(|sample| sample.p50_ms))
            } else {
                spread(&all(|sample| sample.cpu_us))
            };
        }
    }

    /// Returns the row of a target whose figures can be quoted.
    pub fn quoted(&self, target: TargetName) -> Result<&Row, String> {
        let name = name_of(target);
        let row = self.targets.iter().find(|row| row.name == target);
        let row = row.ok_or_else(|| format!("{name} was not measured"))?;
        row.refusal()
            .map_or(Ok(row), |why| Err(format!("{name}: {why}")))
    }
}

impl Row {
    /// Makes the row of these rounds.
    pub fn new(name: TargetName, rounds: Vec<Sample>, failed: Option<String>) -> Self {
        Self {
            name,
            median: None,
            p50_added_ms: None,
            p99_added_ms: None,
            handoff_ratio: None,
            spread: None,
            failed,
            rounds,
        }
    }

    /// Returns the reason for which its figures are not quoted.
    pub fn refusal(&self) -> Option<String> {
        if self.failed.is_some() {
            return self.failed.clone();
        }
        if self.median.is_none() {
            return Some("it has no round".to_owned());
        }
        let spread = self.spread.filter(|spread| *spread > DISAGREE)?;
        Some(format!("its rounds disagree by a factor of {spread:.2}"))
    }
}

/// Returns the largest over the smallest value, without the one that is furthest from the median (of
/// four or more).
fn spread(values: &[f64]) -> Option<f64> {
    let middle = median(values.iter().copied())?;
    let mut values = values.to_vec();
    let distance = |value: f64| (value / middle).max(middle / value);
    values.sort_by(|one, other| distance(*one).total_cmp(&distance(*other)));
    if values.len() >= 4 {
        values.pop();
    }
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    (smallest > 0.0).then(|| largest / smallest)
}

/// Returns the median of every other value over that of the rest, or the inverse: at least 1. At a
/// given rate, which threads share a processor is chance and lasts for a round, so that one round says
/// little.
fn halves(values: &[f64]) -> Option<f64> {
    let of = |first: usize| median(values.iter().skip(first).step_by(2).copied());
    let (one, other) = (of(0)?, of(1)?);
    (one > 0.0 && other > 0.0).then(|| (one / other).max(other / one))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a case whose targets have these processor times and latencies in each round.
    pub fn case(name: CaseName, targets: &[(TargetName, &[f64], f64)]) -> Case {
        let row = |(name, cpu, ms): &(TargetName, &[f64], f64)| {
            let sample = |cpu: &f64| Sample {
                rps: 1000.0,
                cpu_us: *cpu,
                p50_ms: *ms,
                p99_ms: *ms,
                rss_kib: 4096.0,
            };
            Row::new(*name, cpu.iter().map(sample).collect(), None)
        };
        let mut case = Case {
            name,
            offered_rps: None,
            connections: 64,
            targets: targets.iter().map(row).collect(),
        };
        case.compare();
        case
    }

    #[test]
    fn half_of_the_rounds_has_to_say_what_the_other_half_says() {
        for (values, expected) in [
            (&[10.0, 10.0, 99.0, 99.0, 10.0, 10.0][..], Some(1.0)),
            (&[30.0, 10.0, 30.0, 10.0], Some(3.0)),
            (&[1.0], None),
        ] {
            assert_eq!(halves(values), expected, "{values:?}");
        }
    }

    #[test]
    fn one_round_may_be_off_and_no_more() {
        for (values, expected) in [
            (&[10.0, 10.0, 10.0, 10.0, 99.0][..], Some(1.0)),
            (&[10.0, 11.0, 10.0, 12.0, 3.0], Some(1.2)),
            (&[10.0, 10.0, 10.0, 30.0, 20.0], Some(2.0)),
            // Too few to leave one out.
            (&[10.0, 15.0, 10.0], Some(1.5)),
            (&[0.0, 0.0], None),
        ] {
            assert_eq!(spread(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_target_is_quoted_only_if_its_rounds_agree_and_none_failed() {
        let shaky: &[f64] = &[20.0, 25.0, 20.0, 26.0, 60.0];
        let mut case = case(
            CaseName::Small,
            &[
                (TargetName::Nginx, shaky, 1.0),
                (TargetName::Haproxy, &[20.0; 5], 1.0),
                (TargetName::Handoff, &[15.0; 5], 1.0),
            ],
        );
        let refused = |case: &Case, name, why| case.quoted(name).unwrap_err().contains(why);
        assert!(refused(&case, TargetName::Nginx, "disagree"));
        assert!(refused(&case, TargetName::Caddy, "not measured"));
        let haproxy = case.quoted(TargetName::Haproxy).unwrap();
        assert_eq!(haproxy.handoff_ratio, Some(0.75));
        case.targets[1].failed = Some("no connection".to_owned());
        assert!(refused(&case, TargetName::Haproxy, "no connection"));
    }

    #[test]
    fn latency_is_what_is_added_in_the_same_round() {
        let mut case = case(
            CaseName::Small,
            &[
                (TargetName::Direct, &[0.0; 3], 1.0),
                (TargetName::Nginx, &[9.0; 3], 1.5),
            ],
        );
        case.targets[0].rounds[1].p50_ms = 5.0;
        case.targets[1].rounds[1].p50_ms = 5.5;
        case.compare();
        assert_eq!(case.targets[1].p50_added_ms, Some(0.5));
    }
}
