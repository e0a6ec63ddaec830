//! The report of a run: its parts added up. Its field names are the keys of the JSON.

pub mod bounds;
pub mod html;
pub mod part;
pub mod plots;
mod problems;
pub mod table;
pub mod text;
pub mod totals;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use self::bounds::Bounds;
use self::part::{Part, PartSpec};
use self::problems::{describe_lateness, problems};
use crate::deploy::swap::Swap;
use crate::generator::failure::Failure;
use crate::generator::mix::Class;
use crate::generator::request::Connection;
use crate::histogram::Histogram;
use crate::tally::{ClassCounts, Example};
use crate::units::rounded;

/// Maximum lateness of the generator (99th percentile, in milliseconds). Above it, latencies would
/// describe the generator and not the server, and are withheld.
const LATENESS_LIMIT_MS: f64 = 100.0;

/// Minimum numbers of requests and swaps of a full record, in which the bounds on time decide, too.
const FULL: (u64, usize) = (1_000_000, 100);
const FULL_ON_WINDOWS: (u64, usize) = (100_000, 30);

/// Maximum number of failures that are shown in words.
const EXAMPLES: usize = 40;

/// The report of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub passed: bool,
    /// Reasons for which it did not pass.
    pub problems: Vec<String>,
    pub sent: u64,
    pub failed: BTreeMap<&'static str, u64>,
    pub classes: BTreeMap<Class, ClassReport>,
    /// Latency of all answered quick requests, from when each was due.
    pub latency_ms: Quantiles,
    pub latency_outside_swaps_ms: QuantilesByConnection,
    pub latency_in_swaps_ms: QuantilesByConnection,
    pub latency_in_control_runs_ms: QuantilesByConnection,
    /// Time of slow requests beyond the time that they asked for.
    pub latency_slow_ms: Quantiles,
    /// Time of quick requests from when each was begun.
    pub service_ms: Quantiles,
    /// Longest time of a request from due to its end, beyond the wait that it asked for.
    pub stall_ms: Option<f64>,
    /// Longest time in which no request became due that got a right answer.
    pub gap_ms: Option<f64>,
    /// Reason for which latencies are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_withheld: Option<String>,
    /// Lateness of the generator itself, which is part of the latencies.
    pub lateness_ms: Quantiles,
    /// Bounds on time, where control runs were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    pub rate: Rate,
    /// Kept connections that the server closed while they were idle.
    pub reopened: u64,
    /// Idempotent requests that arrived at an app twice, as they may.
    pub sent_again: u64,
    pub examples: Vec<Example>,
    pub setup: Setup,
    pub machine: Machine,
    pub swaps: Vec<Swap>,
    pub control_runs: Vec<Swap>,
}

/// One class of traffic.
#[derive(Debug, Serialize)]
pub struct ClassReport {
    pub sent: u64,
    pub failed: u64,
    pub latency_ms: Quantiles,
    pub service_ms: Quantiles,
    pub outside_swaps_ms: Quantiles,
    pub in_swaps_ms: Quantiles,
    pub in_control_runs_ms: Quantiles,
}

/// Percentiles in milliseconds; null without requests, or when withheld.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QuantilesByConnection {
    pub kept: Quantiles,
    pub new: Quantiles,
    pub both: Quantiles,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    pub asked: u32,
    pub reached: f64,
}

/// The description of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// That of the first part, with the requests and swaps of all.
    #[serde(flatten)]
    pub spec: PartSpec,
    pub url: String,
    pub parts: usize,
    /// Start of the first part, as RFC 3339.
    pub started: String,
    /// Time for which load was offered, over all parts.
    pub duration_s: f64,
    /// Start-up time of the app alone, median.
    pub startup_ms: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub os: &'static str,
    pub arch: &'static str,
    pub cpus: usize,
    /// Model of the processor, if the system names it.
    pub cpu: Option<String>,
}

/// The histograms of all parts together.
#[derive(Debug)]
struct Merged {
    classes: BTreeMap<(Class, Connection), ClassCounts>,
    /// Latencies are withheld: of them only the counts are given.
    is_withheld: bool,
}

// === impl Merged ===

impl Merged {
    fn of(parts: &[Part], is_withheld: bool) -> Self {
        let mut classes: BTreeMap<_, ClassCounts> = BTreeMap::new();
        for counts in parts.iter().flat_map(|part| &part.classes) {
            let (class, connection) = (counts.class, counts.connection);
            classes
                .entry((class, connection))
                .or_insert_with(|| ClassCounts::new(class, connection))
                .merge(counts);
        }
        Self {
            classes,
            is_withheld,
        }
    }

    /// Adds up one histogram of these classes.
    fn all(
        &self,
        is_wanted: impl Fn(Class, Connection) -> bool,
        histogram: impl Fn(&ClassCounts) -> &Histogram,
    ) -> Histogram {
        let mut all = Histogram::default();
        for counts in self.classes.values() {
            if is_wanted(counts.class, counts.connection) {
                all.merge(histogram(counts));
            }
        }
        all
    }

    fn quantiles(
        &self,
        is_wanted: impl Fn(Class, Connection) -> bool,
        histogram: impl Fn(&ClassCounts) -> &Histogram,
    ) -> Quantiles {
        let all = self.all(is_wanted, histogram);
        if self.is_withheld {
            return Quantiles {
                count: all.count(),
                ..Quantiles::default()
            };
        }
        Quantiles::of(&all)
    }

    fn by_connection(&self, histogram: fn(&ClassCounts) -> &Histogram) -> QuantilesByConnection {
        let of = |wanted| {
            let is_wanted = |class: Class, connection| class.is_quick() && connection == wanted;
            self.quantiles(is_wanted, histogram)
        };
        QuantilesByConnection {
            kept: of(Connection::Kept),
            new: of(Connection::New),
            both: self.quantiles(is_quick, histogram),
        }
    }
}

fn is_quick(class: Class, _connection: Connection) -> bool {
    class.is_quick()
}

// === impl Report ===

impl Report {
    /// Adds up the parts, of which there is at least one.
    pub fn new(parts: &[Part]) -> Self {
        let spec = &parts[0].spec;
        let latency_withheld = describe_lateness(parts, LATENESS_LIMIT_MS);
        let is_withheld = latency_withheld.is_some();
        let merged = Merged::of(parts, is_withheld);
        let sent = parts.iter().map(|part| part.sent).sum();
        let swaps: Vec<Swap> = parts.iter().flat_map(|part| part.swaps.clone()).collect();
        let control_runs = parts.iter().flat_map(|part| part.control_runs.clone());
        let failed = failures(parts, spec.has_journal);
        let bounds = (spec.has_journal && spec.strategy == "handoff").then(|| {
            let full = if spec.windows { FULL_ON_WINDOWS } else { FULL };
            // A withheld latency cannot be compared.
            let is_quoted = |class: Class, _| class.is_quick() && !is_withheld;
            let in_swaps = merged.all(is_quoted, |counts| &counts.in_swaps);
            let in_controls = merged.all(is_quoted, |counts| &counts.in_controls);
            let is_full = sent >= full.0 && swaps.len() >= full.1;
            Bounds::of(parts, &in_swaps, &in_controls, is_full)
        });
        let problems = problems(parts, &failed, bounds.as_ref());
        let longest = |of: fn(&Part) -> f64| {
            let longest = parts.iter().map(of).fold(0.0, f64::max);
            (sent > 0 && !is_withheld).then_some(longest)
        };
        let mut lateness = Histogram::default();
        parts.iter().for_each(|part| lateness.merge(&part.lateness));
        let duration_s = parts.iter().map(|part| part.duration_s).sum::<f64>();
        Self {
            passed: problems.is_empty(),
            problems,
            sent,
            failed,
            classes: classes(&merged),
            latency_ms: merged.quantiles(is_quick, |counts| &counts.latency),
            latency_outside_swaps_ms: merged.by_connection(|counts| &counts.outside),
            latency_in_swaps_ms: merged.by_connection(|counts| &counts.in_swaps),
            latency_in_control_runs_ms: merged.by_connection(|counts| &counts.in_controls),
            latency_slow_ms: merged
                .quantiles(|class, _| !class.is_quick(), |counts| &counts.latency),
            service_ms: merged.quantiles(is_quick, |counts| &counts.service),
            stall_ms: longest(|part| part.stall_ms),
            gap_ms: longest(|part| part.gap_ms),
            latency_withheld,
            lateness_ms: Quantiles::of(&lateness),
            rate: Rate {
                asked: spec.rate.get(),
                reached: (sent as f64 / duration_s.max(0.001) * 10.0).round() / 10.0,
            },
            reopened: parts.iter().map(|part| part.reopened).sum(),
            sent_again: parts.iter().map(|part| part.sent_again).sum(),
            examples: examples(parts),
            setup: setup(parts, swaps.len(), bounds.as_ref(), duration_s),
            machine: Machine::this(),
            bounds,
            swaps,
            control_runs: control_runs.collect(),
        }
    }

    /// Returns the number of failed requests.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Writes a result as JSON.
pub fn write_json(result: &impl Serialize, file: &Path) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(result)?;
    json.push(b'\n');
    fs::write(file, json)
}

fn failures(parts: &[Part], has_journal: bool) -> BTreeMap<&'static str, u64> {
    let kinds: &[Failure] = if has_journal {
        &Failure::ALL
    } else {
        Failure::PLAIN
    };
    let mut failed: BTreeMap<_, u64> = kinds.iter().map(|kind| (kind.word(), 0)).collect();
    for (kind, count) in parts.iter().flat_map(|part| &part.failed) {
        *failed.entry(kind.word()).or_default() += count;
    }
    failed
}

fn examples(parts: &[Part]) -> Vec<Example> {
    let examples = parts.iter().flat_map(|part| part.examples.clone());
    examples.take(EXAMPLES).collect()
}

fn classes(merged: &Merged) -> BTreeMap<Class, ClassReport> {
    let class_report = |wanted: Class| {
        let of = |histogram: fn(&ClassCounts) -> &Histogram| {
            merged.quantiles(|class, _| class == wanted, histogram)
        };
        let counts = || merged.classes.values().filter(|c| c.class == wanted);
        counts().next()?;
        let report = ClassReport {
            sent: counts().map(|counts| counts.sent).sum(),
            failed: counts().map(|counts| counts.failed).sum(),
            latency_ms: of(|counts| &counts.latency),
            service_ms: of(|counts| &counts.service),
            outside_swaps_ms: of(|counts| &counts.outside),
            in_swaps_ms: of(|counts| &counts.in_swaps),
            in_control_runs_ms: of(|counts| &counts.in_controls),
        };
        Some((wanted, report))
    };
    Class::ALL.into_iter().filter_map(class_report).collect()
}

fn setup(parts: &[Part], swaps: usize, bounds: Option<&Bounds>, duration_s: f64) -> Setup {
    let started_ms = parts.iter().map(|part| part.started_ms).min().unwrap_or(0);
    let started = UNIX_EPOCH + Duration::from_millis(started_ms);
    let asked: u32 = parts.iter().map(|part| part.spec.swaps).sum();
    Setup {
        spec: PartSpec {
            requests: parts.iter().map(|part| part.spec.requests).sum(),
            // With a limit on time, as many as there was time for.
            swaps: asked.max(u32::try_from(swaps).unwrap_or(u32::MAX)),
            ..parts[0].spec.clone()
        },
        url: parts[0].url.clone(),
        parts: parts.len(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        duration_s: (duration_s * 10.0).round() / 10.0,
        startup_ms: bounds.and_then(|bounds| bounds.promoted_after.compared_ms),
    }
}

// === impl Quantiles ===

impl Quantiles {
    pub fn of(histogram: &Histogram) -> Self {
        let at = |quantile| histogram.at(quantile).map(rounded);
        Self {
            count: histogram.count(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max().map(rounded),
        }
    }
}

// === impl Machine ===

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {} CPUs", self.os, self.arch, self.cpus)?;
        self.cpu.as_ref().map_or(Ok(()), |cpu| write!(f, ", {cpu}"))
    }
}

impl Machine {
    /// Describes this machine.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: model.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())),
        }
    }
}

#[cfg(test)]
pub mod tests;
