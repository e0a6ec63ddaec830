//! The totals over all parts, as JSON: the demo's keys and more.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::bounds::{Bounds, OVER_SHAM_MS};
use super::part::{Asked, ClassPart, Part, SwapPart};
use crate::metrics::{Example, Percentiles};
use crate::numbers::thousands;
use crate::result::Failure;
use crate::summary::{LATENESS_LIMIT_MS, Machine, Quantiles, QuantilesByConnection, Rate};
use crate::traffic::{Class, Connection};

/// From so many requests and swaps on the bounds on time decide, too.
const FULL: (u64, usize) = (1_000_000, 100);
const FULL_ON_WINDOWS: (u64, usize) = (100_000, 30);

/// So many different failures are kept in words.
const EXAMPLES: usize = 40;

/// The whole proof. Its field names are the JSON's keys.
#[derive(Debug, Serialize)]
pub struct Record {
    pub passed: bool,
    /// Why it did not pass, in words.
    pub problems: Vec<String>,
    pub sent: u64,
    pub failed: BTreeMap<&'static str, u64>,
    pub classes: BTreeMap<Class, ClassRecord>,
    /// Of all answered requests of the quick classes; from when each was due.
    pub latency_ms: Quantiles,
    pub latency_outside_swaps_ms: QuantilesByConnection,
    pub latency_in_swaps_ms: QuantilesByConnection,
    pub latency_in_shams_ms: QuantilesByConnection,
    /// Of requests that take their time: beyond that.
    pub latency_slow_ms: Quantiles,
    /// Of the quick classes; from when each was begun.
    pub service_ms: Quantiles,
    /// Why latencies are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_withheld: Option<String>,
    pub lateness_ms: Quantiles,
    pub bounds: Bounds,
    pub rate: Rate,
    /// Kept connections that the server closed while they were idle.
    pub reopened: u64,
    /// Idempotent requests that arrived at an app twice, as they may.
    pub sent_again: u64,
    pub examples: Vec<Example>,
    pub setup: Setup,
    pub machine: Machine,
    pub swaps: Vec<SwapPart>,
    pub shams: Vec<SwapPart>,
}

/// One class of traffic.
#[derive(Debug, Serialize)]
pub struct ClassRecord {
    pub sent: u64,
    pub failed: u64,
    pub latency_ms: Quantiles,
    pub service_ms: Quantiles,
    pub outside_swaps_ms: Quantiles,
    pub in_swaps_ms: Quantiles,
    pub in_shams_ms: Quantiles,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub struct Setup {
    pub strategy: String,
    pub deploy_by: String,
    pub connections: usize,
    pub requests: u64,
    pub swaps: u32,
    pub parts: usize,
    pub windows: bool,
    /// When the first part began, as RFC 3339.
    pub started: String,
    /// For how long load was offered, over all parts.
    pub duration_s: f64,
    /// The app's own start-up, median.
    pub startup_ms: Option<f64>,
    pub commit: Option<String>,
    pub programs: Option<String>,
}

/// The histograms of all parts together.
#[derive(Debug)]
pub struct Merged {
    pub classes: BTreeMap<Class, ClassPart>,
    pub lateness: Percentiles,
}

// === impl Merged ===

impl Merged {
    pub fn of(parts: &[Part]) -> Self {
        let mut classes: BTreeMap<Class, ClassPart> = BTreeMap::new();
        let mut lateness = Percentiles::new();
        for part in parts {
            lateness.merge(&part.lateness);
            for class in &part.classes {
                classes
                    .entry(class.class)
                    .or_insert_with(|| ClassPart::new(class.class))
                    .merge(class);
            }
        }
        Self { classes, lateness }
    }

    /// The histograms of these classes as one.
    pub fn all(
        &self,
        is_one: impl Fn(Class) -> bool,
        histogram: impl Fn(&ClassPart) -> &Percentiles,
    ) -> Percentiles {
        let mut all = Percentiles::new();
        for part in self.classes.values().filter(|part| is_one(part.class)) {
            all.merge(histogram(part));
        }
        all
    }

    fn by_connection(
        &self,
        shown: bool,
        histogram: impl Fn(&ClassPart) -> &Percentiles,
    ) -> QuantilesByConnection {
        let of = |connection: Connection| {
            let is_one = |class: Class| class.is_quick() && class.connection() == connection;
            Quantiles::if_shown(shown, &self.all(is_one, &histogram))
        };
        QuantilesByConnection {
            kept: of(Connection::Kept),
            new: of(Connection::New),
            both: Quantiles::if_shown(shown, &self.all(Class::is_quick, &histogram)),
        }
    }
}

// === impl Record ===

impl Record {
    /// Of at least one part; `asked` is for the whole proof.
    pub fn new(parts: &[Part], asked: &Asked) -> Self {
        let merged = Merged::of(parts);
        let withheld = too_late(parts, LATENESS_LIMIT_MS);
        let shown = withheld.is_none();
        let sent = parts.iter().map(|part| part.sent).sum();
        let swaps: Vec<SwapPart> = parts.iter().flat_map(|part| part.swaps.clone()).collect();
        let least = if asked.windows { FULL_ON_WINDOWS } else { FULL };
        let is_full = asked.strategy == "handoff" && sent >= least.0 && swaps.len() >= least.1;
        let quick =
            |histogram: fn(&ClassPart) -> &Percentiles| merged.all(Class::is_quick, histogram);
        // What is not quoted is no figure to compare either.
        let quoted = |histogram: fn(&ClassPart) -> &Percentiles| match shown {
            true => quick(histogram),
            false => Percentiles::new(),
        };
        let bounds = Bounds::of(
            parts,
            &quoted(|class| &class.in_swaps),
            &quoted(|class| &class.in_shams),
            is_full,
        );
        let failed = failures(parts);
        let problems = problems(parts, asked, &failed, &bounds);
        let duration_s = parts.iter().map(|part| part.duration_s).sum::<f64>();
        Self {
            passed: problems.is_empty(),
            problems,
            sent,
            failed,
            classes: classes(&merged, shown),
            latency_ms: Quantiles::if_shown(shown, &quick(|class| &class.latency)),
            latency_outside_swaps_ms: merged.by_connection(shown, |class| &class.outside),
            latency_in_swaps_ms: merged.by_connection(shown, |class| &class.in_swaps),
            latency_in_shams_ms: merged.by_connection(shown, |class| &class.in_shams),
            latency_slow_ms: Quantiles::if_shown(
                shown,
                &merged.all(|class| !class.is_quick(), |class| &class.latency),
            ),
            service_ms: Quantiles::if_shown(shown, &quick(|class| &class.service)),
            latency_withheld: withheld,
            lateness_ms: Quantiles::of(&merged.lateness),
            rate: Rate {
                asked: asked.rate,
                reached: (sent as f64 / duration_s.max(0.001) * 10.0).round() / 10.0,
            },
            reopened: parts.iter().map(|part| part.reopened).sum(),
            sent_again: parts.iter().map(|part| part.sent_again).sum(),
            examples: parts
                .iter()
                .flat_map(|part| part.examples.clone())
                .take(EXAMPLES)
                .collect(),
            setup: setup(parts, asked, &bounds, duration_s),
            machine: Machine::this(),
            bounds,
            swaps,
            shams: parts.iter().flat_map(|part| part.shams.clone()).collect(),
        }
    }

    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Whether the generator was later than that in one of the parts, each of which has to count.
fn too_late(parts: &[Part], limit_ms: f64) -> Option<String> {
    let late = |part: &Part| Some((part.lateness.at(0.99)?, part.asked.number));
    let (p99, number) = parts
        .iter()
        .filter_map(late)
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (p99 > limit_ms).then(|| {
        format!(
            "in part {number} the generator itself was late by {p99:.0} ms at the 99th percentile \
             (more than {limit_ms:.0}): this machine is too busy for this rate"
        )
    })
}

fn failures(parts: &[Part]) -> BTreeMap<&'static str, u64> {
    let mut failed: BTreeMap<_, u64> = Failure::ALL.map(|kind| (kind.word(), 0)).into();
    for (kind, count) in parts.iter().flat_map(|part| &part.failed) {
        *failed.entry(kind.word()).or_default() += count;
    }
    failed
}

fn classes(merged: &Merged, shown: bool) -> BTreeMap<Class, ClassRecord> {
    let of = |percentiles: &Percentiles| Quantiles::if_shown(shown, percentiles);
    let record = |part: &ClassPart| ClassRecord {
        sent: part.sent,
        failed: part.failed,
        latency_ms: of(&part.latency),
        service_ms: of(&part.service),
        outside_swaps_ms: of(&part.outside),
        in_swaps_ms: of(&part.in_swaps),
        in_shams_ms: of(&part.in_shams),
    };
    let records = merged.classes.values();
    records.map(|part| (part.class, record(part))).collect()
}

fn setup(parts: &[Part], asked: &Asked, bounds: &Bounds, duration_s: f64) -> Setup {
    let started_ms = parts.iter().map(|part| part.started_ms).min().unwrap_or(0);
    let started = UNIX_EPOCH + Duration::from_millis(started_ms);
    Setup {
        strategy: asked.strategy.clone(),
        deploy_by: asked.deploy_by.clone(),
        connections: asked.connections,
        requests: asked.requests,
        swaps: asked.swaps,
        parts: parts.len(),
        windows: asked.windows,
        started: humantime::format_rfc3339_seconds(started).to_string(),
        duration_s: (duration_s * 10.0).round() / 10.0,
        startup_ms: bounds.promoted_after.compared_ms,
        commit: asked.commit.clone(),
        programs: asked.programs.clone(),
    }
}

fn problems(
    parts: &[Part],
    asked: &Asked,
    failed: &BTreeMap<&'static str, u64>,
    bounds: &Bounds,
) -> Vec<String> {
    let mut problems = Vec::new();
    let failures: u64 = failed.values().sum();
    let sent: u64 = parts.iter().map(|part| part.sent).sum();
    if failures > 0 {
        let (failures, sent) = (thousands(failures), thousands(sent));
        problems.push(format!("{failures} of {sent} requests failed"));
    }
    if sent < asked.requests {
        let (sent, asked) = (thousands(sent), thousands(asked.requests));
        problems.push(format!("{sent} of {asked} requests were sent"));
    }
    let swaps: usize = parts.iter().map(|part| part.swaps.len()).sum();
    if swaps < asked.swaps as usize {
        problems.push(format!("{swaps} of {} swaps were made", asked.swaps));
    }
    for part in parts {
        let number = part.asked.number;
        let named = part.problems.iter();
        problems.extend(named.map(|problem| format!("part {number}: {problem}")));
    }
    if bounds.decide {
        // Its lateness is part of what it finds, and raises the limit.
        problems.extend(too_late(parts, OVER_SHAM_MS));
        let ms =
            |ms: Option<f64>| ms.map_or_else(|| "not known".to_owned(), |ms| format!("{ms:.1} ms"));
        let Bounds {
            p999_in_swaps: p999,
            promoted_after: promoted,
            ..
        } = bounds;
        if !p999.holds {
            problems.push(format!(
                "p99.9 in swap windows is {}, more than {}",
                ms(p999.found_ms),
                ms(p999.limit_ms)
            ));
        }
        if !promoted.holds {
            problems.push(format!(
                "detected to promoted is {} at the median, more than {}",
                ms(promoted.found_ms),
                ms(promoted.limit_ms)
            ));
        }
    }
    problems
}

#[cfg(test)]
pub mod tests;
