//! The figures of a case: medians of its rounds, or a refusal.

use serde::Serialize;

use crate::cli::bench::{CaseName, TargetName, name_of};

/// Maximum ratio of rounds that are quoted.
///
/// With as many requests as possible, the processor time of a target's rounds is compared: the largest
/// over the smallest, without the one that is furthest from the median (see [`spread`]). At a given
/// rate latency is compared, and mostly nothing runs, so that a single round says little: the median
/// of every other round is compared with that of the rest (see [`halves`]).
pub const DISAGREE: f64 = 1.2;

/// Targets that handoff is compared with: when the rounds of one disagree, the case is refused. Another
/// target whose rounds disagree is not quoted itself.
const COMPARED: [TargetName; 4] = [
    TargetName::Relay,
    TargetName::Nginx,
    TargetName::Haproxy,
    TargetName::Handoff,
];

/// One target in one round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    pub rps: f64,
    /// Microseconds for each request, of the proxy's processes.
    pub cpu_us: f64,
    pub cpu_user_us: f64,
    pub cpu_system_us: f64,
    /// Time of a request, as the tool measures it.
    pub total_p50_ms: f64,
    pub total_p99_ms: f64,
    /// Largest value of the round.
    pub rss_kib: u64,
}

/// One target in one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: TargetName,
    /// Medians; none when the case is refused or the target failed.
    #[serde(flatten)]
    pub median: Option<Median>,
    /// Failure of this target.
    pub failed: Option<String>,
    /// Reason for which this target alone is not quoted.
    pub refused: Option<String>,
    /// Ratio of its rounds; see [`DISAGREE`].
    pub spread: Option<f64>,
    pub rounds: Vec<Sample>,
}

/// The quoted figures of a target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Median {
    pub rps: f64,
    pub cpu_us: f64,
    pub cpu_user_us: f64,
    pub cpu_system_us: f64,
    /// Time added to the direct figure of the same round; 0 for the direct way itself.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub total_p50_ms: f64,
    pub total_p99_ms: f64,
    pub rss_kib: u64,
    /// handoff's processor time over this target's.
    pub handoff_ratio: Option<f64>,
}

/// A case with all its targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    pub name: CaseName,
    /// Offered rate, unless it was as many requests as possible.
    pub offered_rps: Option<f64>,
    pub connections: usize,
    /// Time of a target in a round.
    pub seconds: f64,
    /// Reason for which nothing is quoted.
    pub refused: Option<String>,
    pub targets: Vec<Row>,
}

/// Returns the value in the middle, or the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len().is_multiple_of(2) {
        f64::midpoint(values[values.len() / 2 - 1], upper)
    } else {
        upper
    })
}

/// Returns the largest over the smallest value, without the one that is furthest from the median (of
/// four or more). 1 is perfect agreement.
pub fn spread(values: &[f64]) -> Option<f64> {
    let middle = median(values.iter().copied())?;
    let mut values = values.to_vec();
    // By ratio: half is as far off as double.
    let off = |value: f64| (value / middle).max(middle / value);
    values.sort_by(|one, other| off(*one).total_cmp(&off(*other)));
    if values.len() >= 4 {
        values.pop();
    }
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    (smallest > 0.0).then(|| largest / smallest)
}

/// Returns the median of every other value over that of the rest, or the inverse: at least 1, which is
/// perfect agreement.
pub fn halves(values: &[f64]) -> Option<f64> {
    let of = |first: usize| median(values.iter().skip(first).step_by(2).copied());
    let (one, other) = (of(0)?, of(1)?);
    (one > 0.0 && other > 0.0).then(|| (one / other).max(other / one))
}

// === impl Row ===

impl Row {
    /// Sums up the rounds; `direct` has those of the direct way, in the same order.
    pub fn new(
        name: TargetName,
        is_paced: bool,
        rounds: Vec<Sample>,
        failed: Option<String>,
        direct: &[Sample],
    ) -> Self {
        let each = |value: fn(&Sample) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
        let spread = if is_paced {
            halves(&each(|sample| sample.total_p50_ms))
        } else {
            spread(&each(|sample| sample.cpu_us))
        };
        let spread = spread.filter(|_| name != TargetName::Direct);
        let median = if failed.is_some() {
            None
        } else {
            Median::of(&rounds, direct)
        };
        Self {
            name,
            median,
            failed,
            refused: None,
            spread,
            rounds,
        }
    }

    fn each_round(&self, is_paced: bool) -> String {
        let text = |sample: &Sample| {
            if is_paced {
                format!("{:.0}", sample.total_p50_ms * 1000.0)
            } else {
                format!("{:.1}", sample.cpu_us)
            }
        };
        let each: Vec<String> = self.rounds.iter().map(text).collect();
        format!("{} µs", each.join(", "))
    }
}

// === impl Median ===

impl Median {
    fn of(rounds: &[Sample], direct: &[Sample]) -> Option<Self> {
        let of = |value: fn(&Sample) -> f64| median(rounds.iter().map(value));
        let added = |value: fn(&Sample) -> f64| {
            median(
                rounds
                    .iter()
                    .zip(direct)
                    .map(|(one, direct)| value(one) - value(direct)),
            )
        };
        Some(Self {
            rps: of(|sample| sample.rps)?,
            cpu_us: of(|sample| sample.cpu_us)?,
            cpu_user_us: of(|sample| sample.cpu_user_us)?,
            cpu_system_us: of(|sample| sample.cpu_system_us)?,
            p50_ms: added(|sample| sample.total_p50_ms)?,
            p99_ms: added(|sample| sample.total_p99_ms)?,
            total_p50_ms: of(|sample| sample.total_p50_ms)?,
            total_p99_ms: of(|sample| sample.total_p99_ms)?,
            rss_kib: of(|sample| sample.rss_kib as f64)? as u64,
            handoff_ratio: None,
        })
    }
}

// === impl Case ===

impl Case {
    /// Refuses the case, or fills in the ratios.
    pub fn judged(mut self) -> Self {
        let is_paced = self.offered_rps.is_some();
        let mut disagreeing = Vec::new();
        for row in self.targets.iter_mut().filter(|row| row.failed.is_none()) {
            if row.spread.is_none_or(|spread| spread <= DISAGREE) {
                continue;
            }
            if COMPARED.contains(&row.name) {
                disagreeing.push(format!(
                    "{} ({})",
                    name_of(row.name),
                    row.each_round(is_paced)
                ));
            } else {
                row.refused = Some(format!(
                    "its rounds disagree ({})",
                    row.each_round(is_paced)
                ));
                row.median = None;
            }
        }
        if !disagreeing.is_empty() {
            self.refused = Some(format!(
                "the rounds disagree by more than a fifth: {}",
                disagreeing.join("; ")
            ));
            for row in &mut self.targets {
                row.median = None;
            }
        }
        let handoff = self.cpu_us(TargetName::Handoff);
        for row in &mut self.targets {
            if let (Some(median), Some(handoff)) = (&mut row.median, handoff)
                && median.cpu_us > 0.0
            {
                median.handoff_ratio = Some(handoff / median.cpu_us);
            }
        }
        self
    }

    /// Returns the quoted figures of a target.
    ///
    /// # Errors
    /// Nothing is quoted; the text is for a person.
    pub fn quoted(&self, target: TargetName) -> Result<Median, String> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let Some(row) = self.targets.iter().find(|row| row.name == target) else {
            return Err(format!("{} was not measured", name_of(target)));
        };
        let why = row.failed.as_ref().or(row.refused.as_ref());
        match (why, row.median) {
            (Some(why), _) => Err(format!("{}: {why}", name_of(target))),
            (None, Some(median)) => Ok(median),
            (None, None) => Err(format!("{} has no round", name_of(target))),
        }
    }

    fn cpu_us(&self, target: TargetName) -> Option<f64> {
        self.quoted(target).ok().map(|median| median.cpu_us)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a round with this processor time.
    pub fn sample(cpu_us: f64) -> Sample {
        with_latency(cpu_us, 1.5)
    }

    fn with_latency(cpu_us: f64, p50_ms: f64) -> Sample {
        Sample {
            rps: 1000.0,
            cpu_us,
            cpu_user_us: cpu_us / 2.0,
            cpu_system_us: cpu_us / 2.0,
            total_p50_ms: p50_ms,
            total_p99_ms: p50_ms * 2.0,
            rss_kib: 4096,
        }
    }

    fn samples(cpu_us: &[f64]) -> Vec<Sample> {
        cpu_us.iter().map(|cpu| sample(*cpu)).collect()
    }

    fn case(rows: &[(TargetName, &[f64])]) -> Case {
        let direct = samples(&[0.0; 5]);
        let rows = rows
            .iter()
            .map(|(name, cpu)| Row::new(*name, false, samples(cpu), None, &direct));
        let direct = Row::new(TargetName::Direct, false, direct.clone(), None, &direct);
        Case {
            name: CaseName::Small,
            offered_rps: None,
            connections: 64,
            seconds: 1.0,
            refused: None,
            targets: std::iter::once(direct).chain(rows).collect(),
        }
        .judged()
    }

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[3.0, 1.0], Some(2.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 3.0, 2.0], Some(2.5)),
        ] {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn half_of_the_rounds_has_to_say_what_the_other_half_says() {
        for (values, expected) in [
            (&[10.0, 10.0, 99.0, 99.0, 10.0, 10.0][..], 1.0),
            (&[10.0, 12.0, 10.0, 12.0, 99.0, 12.0], 1.2),
            (&[30.0, 10.0, 30.0, 10.0], 3.0),
        ] {
            assert_eq!(halves(values), Some(expected), "{values:?}");
        }
        assert_eq!(halves(&[]), None);
        assert_eq!(halves(&[1.0]), None);
    }

    #[test]
    fn one_round_may_be_off_and_no_more() {
        for (values, expected) in [
            (&[10.0, 10.0, 10.0, 10.0, 99.0][..], 1.0),
            (&[10.0, 11.0, 10.0, 12.0, 3.0], 1.2),
            (&[10.0, 10.0, 10.0, 30.0, 20.0], 2.0),
            // Too few to leave one out.
            (&[10.0, 15.0, 10.0], 1.5),
        ] {
            assert_eq!(spread(values), Some(expected), "{values:?}");
        }
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[0.0, 0.0]), None);
    }

    #[test]
    fn a_case_whose_rounds_disagree_is_refused_with_all_its_targets() {
        let steady: &[f64] = &[20.0, 20.0, 21.0, 20.0, 60.0];
        let shaky: &[f64] = &[20.0, 25.0, 20.0, 26.0, 60.0];
        let good = case(&[(TargetName::Nginx, steady), (TargetName::Handoff, steady)]);
        assert_eq!(good.refused, None);
        assert_eq!(good.quoted(TargetName::Nginx).unwrap().cpu_us, 20.0);

        let bad = case(&[(TargetName::Nginx, shaky), (TargetName::Handoff, steady)]);
        let reason = bad.refused.clone().unwrap();
        assert!(
            reason.contains("nginx (20.0, 25.0") && !reason.contains("handoff"),
            "{reason}"
        );
        assert_eq!(bad.quoted(TargetName::Handoff).unwrap_err(), reason);
        assert!(bad.targets.iter().all(|row| row.median.is_none()));
    }

    #[test]
    fn a_target_that_handoff_need_not_beat_is_refused_alone() {
        let shaky: &[f64] = &[20.0, 25.0, 20.0, 26.0, 60.0];
        let case = case(&[(TargetName::Caddy, shaky), (TargetName::Handoff, &[9.0; 5])]);
        assert!(case.quoted(TargetName::Handoff).is_ok());
        let error = case.quoted(TargetName::Caddy).unwrap_err();
        assert!(error.contains("its rounds disagree (20.0, 25.0"), "{error}");
    }

    #[test]
    fn a_target_that_failed_spoils_only_itself() {
        let direct = samples(&[0.0; 5]);
        let mut case = case(&[(TargetName::Handoff, &[20.0; 5])]);
        case.targets.push(Row::new(
            TargetName::Caddy,
            false,
            samples(&[20.0, 99.0]),
            Some("no connection".to_owned()),
            &direct,
        ));
        let case = case.judged();
        assert_eq!(case.refused, None);
        let error = case.quoted(TargetName::Caddy).unwrap_err();
        assert!(error.contains("no connection"), "{error}");
        assert!(
            case.quoted(TargetName::Nginx)
                .unwrap_err()
                .contains("nginx")
        );
    }

    #[test]
    fn latency_is_what_is_added_in_the_same_round() {
        let direct = [
            with_latency(0.0, 1.0),
            with_latency(0.0, 5.0),
            with_latency(0.0, 1.0),
        ];
        let through = vec![
            with_latency(9.0, 1.5),
            with_latency(9.0, 5.5),
            with_latency(9.0, 9.0),
        ];
        let median = Row::new(TargetName::Nginx, false, through, None, &direct)
            .median
            .unwrap();
        assert_eq!((median.p50_ms, median.total_p50_ms), (0.5, 5.5));
    }

    #[test]
    fn the_ratio_is_handoffs_cpu_over_the_others() {
        let case = case(&[
            (TargetName::Nginx, &[20.0; 5]),
            (TargetName::Handoff, &[15.0; 5]),
        ]);
        let ratio = |target| case.quoted(target).unwrap().handoff_ratio;
        assert_eq!(ratio(TargetName::Nginx), Some(0.75));
        assert_eq!(ratio(TargetName::Handoff), Some(1.0));
        assert_eq!(ratio(TargetName::Direct), None);
    }
}
