//! What a run has shown: plain data, and the JSON that it becomes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::cli::DeployBy;
use crate::metrics::{ByConnection, Example, Failures, Metrics, Percentiles, Windows};
use crate::numbers::{millis, thousands};
use crate::scenario::Swap;

/// Beyond this lateness (99th percentile, in milliseconds) latencies would tell of the generator,
/// not of the server, and are not quoted.
pub const LATENESS_LIMIT_MS: f64 = 100.0;

/// The report of one run. Its field names are the JSON's keys.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub passed: bool,
    /// Why it did not pass, in words.
    pub problems: Vec<String>,
    pub sent: u64,
    pub failed: Failures,
    pub swaps: Vec<Swap>,
    /// Of all answered requests but the slow ones; from when each was due.
    pub latency_ms: Quantiles,
    pub latency_outside_swaps_ms: QuantilesByConnection,
    pub latency_in_swaps_ms: QuantilesByConnection,
    /// The longest that any request took from when it was due to its end, answer or failure, beyond
    /// the wait that it asked for itself.
    pub stall_ms: Option<f64>,
    /// The longest time in which no request became due that got a right answer.
    pub gap_ms: Option<f64>,
    /// Of requests that asked for a slow answer: beyond the time they asked for.
    pub latency_slow_ms: Quantiles,
    /// Why latencies are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_withheld: Option<String>,
    /// How late the generator itself was; it is part of the latencies.
    pub lateness_ms: Quantiles,
    pub rate: Rate,
    /// Kept connections that the server closed while they were idle.
    pub reopened: u64,
    /// The failures, in words.
    pub examples: Vec<Example>,
    pub setup: Setup,
    pub machine: Machine,
}

/// In milliseconds; null without requests, or when withheld.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct QuantilesByConnection {
    pub kept: Quantiles,
    pub new: Quantiles,
    /// Of these two together.
    pub both: Quantiles,
}

/// Requests a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    pub asked: u32,
    pub reached: f64,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// What was under test, in a word.
    pub strategy: String,
    /// The same for a person.
    #[serde(skip)]
    pub title: String,
    /// Whether answers name their release. Of others only the status is checked, and a swap is over
    /// when its deploy is.
    pub names_releases: bool,
    /// Where requests went.
    pub url: String,
    /// None where the strategy has one way only.
    pub deploy_by: Option<DeployBy>,
    /// The command that deployed, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<String>,
    pub connections: usize,
    pub swaps: u32,
    pub swap_every_ms: u64,
    /// When load began, as RFC 3339.
    pub started: String,
    /// For how long load was offered.
    pub duration_s: f64,
    #[serde(skip)]
    pub rate: u32,
    /// When load began, in unix milliseconds.
    #[serde(skip)]
    pub started_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub os: &'static str,
    pub arch: &'static str,
    pub cpus: usize,
    /// Where the system tells.
    pub cpu: Option<String>,
}

// === impl Summary ===

impl Summary {
    /// `offered` requests should have become outcomes; `trouble` is what went wrong beside them.
    pub fn new(
        setup: Setup,
        metrics: &Metrics,
        mut swaps: Vec<Swap>,
        offered: u64,
        trouble: Vec<String>,
    ) -> Self {
        for swap in &mut swaps {
            let seen = metrics
                .seen(swap.number)
                .map(|seen| setup.started_ms + millis(seen));
            swap.seen_ms = seen.map(|seen| seen.saturating_sub(swap.written_ms));
        }
        let latency = metrics.latency(&windows(&swaps, setup.started_ms));
        let lateness_ms = Quantiles::of(metrics.lateness());
        let withheld = lateness_ms.p99.filter(|p99| *p99 > LATENESS_LIMIT_MS).map(|p99| {
            format!(
                "the generator itself was late by {p99:.0} ms at the 99th percentile (more than \
                 {LATENESS_LIMIT_MS:.0}): this machine is too busy for this rate"
            )
        });
        let shown = withheld.is_none();

        let mut problems = trouble;
        problems.extend(problems_of(metrics, &swaps, &setup, offered));
        Self {
            passed: problems.is_empty(),
            problems,
            sent: metrics.sent(),
            failed: metrics.failed(),
            swaps,
            latency_ms: Quantiles::if_shown(shown, &latency.all),
            latency_outside_swaps_ms: QuantilesByConnection::if_shown(shown, &latency.outside),
            latency_in_swaps_ms: QuantilesByConnection::if_shown(shown, &latency.within),
            stall_ms: (shown && metrics.sent() > 0).then(|| ms(metrics.stall())),
            gap_ms: (shown && metrics.sent() > 0).then(|| ms(metrics.gap())),
            latency_slow_ms: Quantiles::if_shown(shown, &latency.slow),
            latency_withheld: withheld,
            lateness_ms,
            rate: Rate {
                asked: setup.rate,
                reached: metrics.sent() as f64 / setup.duration_s.max(0.001),
            },
            reopened: metrics.reopened(),
            examples: metrics.examples().to_vec(),
            setup,
            machine: Machine::this(),
        }
    }
}

fn problems_of(metrics: &Metrics, swaps: &[Swap], setup: &Setup, offered: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let failed = metrics.failed().total();
    if failed > 0 {
        problems.push(format!(
            "{} of {} requests failed",
            thousands(failed),
            thousands(metrics.sent())
        ));
    }
    if metrics.sent() == 0 {
        problems.push("no request was sent".to_owned());
    }
    if offered != metrics.sent() {
        problems.push(format!(
            "{offered} requests were offered, {} are accounted for",
            metrics.sent()
        ));
    }
    for Swap {
        release,
        seen_ms,
        refused,
        ..
    } in swaps
    {
        match (refused, seen_ms) {
            (Some(reason), _) => problems.push(format!("{release} was refused: {reason}")),
            (None, None) if setup.names_releases => {
                problems.push(format!("clients never saw {release}"))
            }
            (None, None | Some(_)) => {}
        }
    }
    let wanted = setup.swaps;
    if swaps.len() < wanted as usize {
        problems.push(format!("{} of {wanted} swaps were made", swaps.len()));
    } else {
        // In a script that was broken off, this would be no news.
        let unfinished = swaps
            .iter()
            .filter(|swap| swap.refused.is_none() && swap.window().1.is_none());
        problems.extend(
            unfinished.map(|swap| format!("the release before {} was not stopped", swap.release)),
        );
    }
    problems
}

/// A swap that never ended lasts to the end of the run.
fn windows(swaps: &[Swap], started_ms: u64) -> Windows {
    let since = |swap: &Swap, ms: u64| {
        Duration::from_millis((swap.written_ms + ms).saturating_sub(started_ms))
    };
    let window = |swap: &Swap| {
        let (start, end) = swap.window();
        (
            since(swap, start),
            end.map_or(Duration::MAX, |end| since(swap, end)),
        )
    };
    Windows::merge(swaps.iter().map(window).collect())
}

/// To the microsecond.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

// === impl Quantiles ===

impl Quantiles {
    pub fn of(percentiles: &Percentiles) -> Self {
        // Latencies are measured in microseconds; more digits would be noise.
        let rounded = |ms: Option<f64>| ms.map(|ms| (ms * 1000.0).round() / 1000.0);
        Self {
            count: percentiles.count(),
            p50: rounded(percentiles.at(0.5)),
            p90: rounded(percentiles.at(0.9)),
            p99: rounded(percentiles.at(0.99)),
            p999: rounded(percentiles.at(0.999)),
            max: rounded(percentiles.max()),
        }
    }

    /// Nothing but the count, when they are withheld.
    pub fn if_shown(shown: bool, percentiles: &Percentiles) -> Self {
        let quantiles = Self::of(percentiles);
        if shown {
            quantiles
        } else {
            Self {
                count: quantiles.count,
                ..Self::default()
            }
        }
    }
}

impl QuantilesByConnection {
    fn if_shown(shown: bool, by: &ByConnection) -> Self {
        Self {
            kept: Quantiles::if_shown(shown, &by.kept),
            new: Quantiles::if_shown(shown, &by.new),
            both: Quantiles::if_shown(shown, &by.both()),
        }
    }
}

// === impl Machine ===

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {} CPUs", self.os, self.arch, self.cpus)?;
        match &self.cpu {
            Some(cpu) => write!(f, ", {cpu}"),
            None => Ok(()),
        }
    }
}

impl Machine {
    pub fn this() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
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
