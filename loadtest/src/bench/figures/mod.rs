//! What comes of the rounds of a case: medians, or a refusal.

use serde::Serialize;

use crate::bench::options::{CaseName, TargetName};

/// Rounds that are further apart than this are not quoted: a fifth.
///
/// Where as many requests are made as possible, what is compared is the CPU per request of a target's
/// rounds: the largest over the smallest, without the one that is furthest from their median (see
/// [`spread`]). At a given rate it is latency that is looked at, and most of the time nothing runs:
/// then a single round says little, but their median has to be one, so that of every other round is
/// compared with that of the rest (see [`halves`]).
pub const DISAGREE: f64 = 1.2;

/// When these disagree, so does the case: they are what handoff is compared with. Another target
/// that disagrees is only not quoted itself.
const COMPARED: [TargetName; 4] = [
    TargetName::Relay,
    TargetName::Nginx,
    TargetName::Haproxy,
    TargetName::Handoff,
];

/// One target in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    pub rps: f64,
    /// Per request, of the proxy's processes; 0 where there is no proxy.
    pub cpu_us: f64,
    pub cpu_user_us: f64,
    pub cpu_system_us: f64,
    /// From when a request was due to the end of its answer.
    pub total_p50_ms: f64,
    pub total_p99_ms: f64,
    /// The most that was seen.
    pub rss_kib: u64,
}

/// One target in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub name: TargetName,
    /// The medians; none when the case is refused or the target failed.
    #[serde(flatten)]
    pub median: Option<Median>,
    /// What went wrong with this target.
    pub failed: Option<String>,
    /// Why this target alone is not quoted.
    pub refused: Option<String>,
    /// How far its rounds are apart: see [`DISAGREE`].
    pub spread: Option<f64>,
    pub rounds: Vec<Sample>,
}

/// What is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Median {
    pub rps: f64,
    pub cpu_us: f64,
    pub cpu_user_us: f64,
    pub cpu_system_us: f64,
    /// Added to the direct figure of the same round; 0 for the direct way itself.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub total_p50_ms: f64,
    pub total_p99_ms: f64,
    pub rss_kib: u64,
    /// handoff's CPU per request over this target's.
    pub handoff_ratio: Option<f64>,
}

/// A case with all its targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    pub name: CaseName,
    /// Requests a second that were offered, where that was not as many as possible.
    pub offered_rps: Option<f64>,
    pub connections: usize,
    /// Of each target's part of a round.
    pub seconds: f64,
    /// Why nothing is quoted.
    pub refused: Option<String>,
    pub targets: Vec<Row>,
}

/// The middle one, or the mean of the two in the middle.
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

/// The largest over the smallest, when the one that is furthest from the median is left out (of
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

/// The median of every other value over that of the rest, or the other way round. 1 is perfect
/// agreement.
pub fn halves(values: &[f64]) -> Option<f64> {
    let of = |first: usize| median(values.iter().skip(first).step_by(2).copied());
    let (one, other) = (of(0)?, of(1)?);
    (one > 0.0 && other > 0.0).then(|| (one / other).max(other / one))
}

// === impl Row ===

impl Row {
    /// What the rounds say. `direct` are the rounds of the direct way, in the same order.
    pub fn new(
        name: TargetName,
        is_paced: bool,
        rounds: Vec<Sample>,
        failed: Option<String>,
        direct: &[Sample],
    ) -> Self {
        let each = |value: fn(&Sample) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
        let spread = match is_paced {
            true => halves(&each(|sample| sample.total_p50_ms)),
            false => spread(&each(|sample| sample.cpu_us)),
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
        let said = |sample: &Sample| match is_paced {
            true => format!("{:.0}", sample.total_p50_ms * 1000.0),
            false => format!("{:.1}", sample.cpu_us),
        };
        let each: Vec<String> = self.rounds.iter().map(said).collect();
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
                    row.name.text(),
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

    /// What is quoted of a target.
    ///
    /// # Errors
    /// Why nothing is.
    pub fn quoted(&self, target: TargetName) -> Result<Median, String> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let Some(row) = self.targets.iter().find(|row| row.name == target) else {
            return Err(format!("{} was not measured", target.text()));
        };
        let why = row.failed.as_ref().or(row.refused.as_ref());
        match (why, row.median) {
            (Some(why), _) => Err(format!("{}: {why}", target.text())),
            (None, Some(median)) => Ok(median),
            (None, None) => Err(format!("{} has no round", target.text())),
        }
    }

    fn cpu_us(&self, target: TargetName) -> Option<f64> {
        self.quoted(target).ok().map(|median| median.cpu_us)
    }
}

#[cfg(test)]
mod tests;
