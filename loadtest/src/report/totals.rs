//! The totals of a record, small enough to be committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Report;
use crate::generator::mix::Class;

/// Returns the totals of a record.
pub fn totals(report: &Report) -> Value {
    let setup = &report.setup;
    let classes = report.classes.iter().map(|(class, found)| {
        let totals = json!({
            "sent": found.sent,
            "failed": found.failed,
            "latency_ms": found.latency_ms,
        });
        (*class, totals)
    });
    let classes: BTreeMap<Class, Value> = classes.collect();
    json!({
        "schema": 1,
        "date": setup.started,
        "commit": setup.spec.commit,
        "machine": report.machine,
        "windows": setup.spec.windows,
        "passed": report.passed,
        "sent": report.sent,
        "failed": report.failed,
        "sent_again": report.sent_again,
        "swaps": report.swaps.len(),
        "control_runs": report.control_runs.len(),
        "duration_s": setup.duration_s,
        "rate": report.rate,
        "connections": setup.spec.connections,
        "latency_ms": report.latency_ms,
        "latency_outside_swaps_ms": report.latency_outside_swaps_ms.both,
        "latency_in_swaps_ms": report.latency_in_swaps_ms.both,
        "latency_in_control_runs_ms": report.latency_in_control_runs_ms.both,
        "latency_slow_ms": report.latency_slow_ms,
        "service_ms": report.service_ms,
        "lateness_ms": report.lateness_ms,
        "bounds": report.bounds,
        "classes": classes,
    })
}

/// Returns the file of the totals: one for each platform.
pub fn file(report: &Report, folder: &Path) -> PathBuf {
    let platform = if report.setup.spec.windows {
        "windows"
    } else {
        report.machine.os
    };
    folder.join(format!("{platform}.json"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::part;
    use super::*;

    #[test]
    fn totals_are_small_and_have_what_a_record_says() {
        let parts: Vec<_> = (0..10).map(|_| part(100_000, 10)).collect();
        let report = Report::new(&parts);
        let json = totals(&report);
        let written = serde_json::to_vec_pretty(&json).unwrap();
        assert!(written.len() < 10_000, "{}", written.len());
        assert_eq!(
            (&json["sent"], &json["swaps"]),
            (&1_000_000.into(), &100.into())
        );
        for key in ["date", "commit", "machine", "failed"] {
            assert!(!json[key].is_null(), "{key}");
        }
        let file = file(&report, Path::new("record"));
        assert_eq!(file.file_stem().unwrap(), std::env::consts::OS);
    }
}
