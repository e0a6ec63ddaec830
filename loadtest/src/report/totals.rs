//! The totals of a record, small enough to be committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bounds::Bounds;
use super::{Machine, Quantiles, Rate, Report};
use crate::generator::mix::Class;

/// The totals of a record.
#[derive(Debug, Serialize)]
pub struct Totals<'a> {
    pub schema: u32,
    /// Start of the load, as RFC 3339.
    pub date: &'a str,
    pub commit: Option<&'a str>,
    pub machine: &'a Machine,
    /// The Windows program, under Wine.
    pub windows: bool,
    pub passed: bool,
    pub sent: u64,
    pub failed: &'a BTreeMap<&'static str, u64>,
    pub sent_again: u64,
    pub swaps: usize,
    pub control_runs: usize,
    pub duration_s: f64,
    pub rate: Rate,
    pub connections: usize,
    pub latency_ms: Quantiles,
    pub latency_outside_swaps_ms: Quantiles,
    pub latency_in_swaps_ms: Quantiles,
    pub latency_in_control_runs_ms: Quantiles,
    pub latency_slow_ms: Quantiles,
    pub service_ms: Quantiles,
    pub lateness_ms: Quantiles,
    pub bounds: Option<&'a Bounds>,
    pub classes: BTreeMap<Class, ClassTotals>,
}

/// The totals of one class of traffic.
#[derive(Debug, Serialize)]
pub struct ClassTotals {
    pub sent: u64,
    pub failed: u64,
    pub latency_ms: Quantiles,
}

impl<'a> Totals<'a> {
    pub fn of(report: &'a Report) -> Self {
        let classes = report.classes.iter().map(|(class, found)| {
            let totals = ClassTotals {
                sent: found.sent,
                failed: found.failed,
                latency_ms: found.latency_ms,
            };
            (*class, totals)
        });
        Self {
            schema: 1,
            date: &report.setup.started,
            commit: report.setup.commit.as_deref(),
            machine: &report.machine,
            windows: report.setup.windows,
            passed: report.passed,
            sent: report.sent,
            failed: &report.failed,
            sent_again: report.sent_again,
            swaps: report.swaps.len(),
            control_runs: report.control_runs.len(),
            duration_s: report.setup.duration_s,
            rate: report.rate,
            connections: report.setup.connections,
            latency_ms: report.latency_ms,
            latency_outside_swaps_ms: report.latency_outside_swaps_ms.both,
            latency_in_swaps_ms: report.latency_in_swaps_ms.both,
            latency_in_control_runs_ms: report.latency_in_control_runs_ms.both,
            latency_slow_ms: report.latency_slow_ms,
            service_ms: report.service_ms,
            lateness_ms: report.lateness_ms,
            bounds: report.bounds.as_ref(),
            classes: classes.collect(),
        }
    }

    /// Returns the file of the totals: one for each platform.
    pub fn file(&self, folder: &Path) -> PathBuf {
        let platform = if self.windows {
            "windows"
        } else {
            self.machine.os
        };
        folder.join(format!("{platform}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::part;
    use super::*;

    #[test]
    fn totals_are_small_and_have_what_a_record_says() {
        let parts: Vec<_> = (0..10).map(|_| part(100_000, 10)).collect();
        let report = Report::new(&parts);
        let totals = Totals::of(&report);
        let json = serde_json::to_vec_pretty(&totals).unwrap();
        assert!(json.len() < 10_000, "{}", json.len());
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            (&json["sent"], &json["swaps"]),
            (&1_000_000.into(), &100.into())
        );
        for key in ["date", "commit", "machine", "failed"] {
            assert!(!json[key].is_null(), "{key}");
        }
        let file = totals.file(Path::new("record"));
        assert_eq!(file.file_stem().unwrap(), std::env::consts::OS);
    }
}
