//! The figures as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::check::Check;
use super::figures::{Case, Row};
use super::footprint::Footprint;
use crate::cli::bench::{TargetName, name_of};
use crate::report::Machine;
use crate::report::table::{Style, add_row, render, table};
use crate::units::{ms, thousands};

/// All figures. In JSON, `p50_ms` and `p99_ms` of `cases[].targets[]` are added to the direct figure.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    pub schema: u32,
    pub started: String,
    pub machine: Machine,
    pub quick: bool,
    pub duration_s: f64,
    pub versions: Vec<Version>,
    /// Targets that could not be measured.
    pub missing: Vec<Missing>,
    pub cases: Vec<Case>,
    /// Memory, with --check.
    pub footprint: Option<Footprint>,
    pub checks: Vec<Check>,
    /// Result of the checks, with --check.
    pub passed: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct Version {
    pub name: TargetName,
    pub version: String,
}

#[derive(Debug, Serialize)]
pub struct Missing {
    pub name: TargetName,
    pub reason: String,
}

/// Returns the figures as text.
pub fn text(report: &BenchReport) -> String {
    let mut text = format!(
        "\n{} · {} · {:.0} s{}\n",
        report.machine,
        report.started,
        report.duration_s,
        if report.quick { ", short" } else { "" },
    );
    for version in &report.versions {
        let _ = writeln!(text, "  {:<12} {}", name_of(version.name), version.version);
    }
    for missing in &report.missing {
        let _ = writeln!(text, "  {:<12} – {}", name_of(missing.name), missing.reason);
    }
    for case in &report.cases {
        text.push_str(&case_text(case));
    }
    if let Some(footprint) = &report.footprint {
        text.push_str(&footprint_text(footprint));
    }
    if !report.checks.is_empty() {
        text.push_str(&checks_text(&report.checks));
    }
    text
}

fn case_text(case: &Case) -> String {
    let offered = case
        .offered_rps
        .map(|rate| format!(", {} requests/s offered", thousands(rate.round() as u64)))
        .unwrap_or_default();
    let mut text = format!(
        "\n{} · {} connections{offered}, {:.2} s a round\n",
        name_of(case.name),
        thousands(case.connections as u64),
        case.seconds
    );
    if let Some(refused) = &case.refused {
        let _ = writeln!(text, "  refused: {refused}");
        return text;
    }
    let mut table = table(&[
        "",
        "req/s",
        "CPU µs",
        "user",
        "system",
        "p50 added",
        "p99 added",
        "RSS MiB",
        "spread",
        "handoff/it",
    ]);
    for row in &case.targets {
        add_row(&mut table, cells(row));
    }
    let _ = writeln!(text, "{}", render(&table, Style::plain()));
    for row in &case.targets {
        if let Some(failed) = &row.failed {
            let _ = writeln!(text, "  {} failed: {failed}", name_of(row.name));
        }
        if let Some(refused) = &row.refused {
            let _ = writeln!(text, "  {} is not quoted: {refused}", name_of(row.name));
        }
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let none = || "–".to_owned();
    let Some(median) = row.median else {
        let mut cells = vec![name_of(row.name)];
        cells.resize(10, none());
        return cells;
    };
    let mut cells = vec![name_of(row.name), thousands(median.rps.round() as u64)];
    if row.name == TargetName::Direct {
        cells.extend([none(), none(), none()]);
        cells.push(format!("({})", ms(Some(median.total_p50_ms))));
        cells.push(format!("({})", ms(Some(median.total_p99_ms))));
        cells.extend([none(), none(), none()]);
    } else {
        cells.extend(
            [median.cpu_us, median.cpu_user_us, median.cpu_system_us]
                .map(|value| format!("{value:.1}")),
        );
        cells.extend([median.p50_ms, median.p99_ms].map(|value| ms(Some(value))));
        cells.push(format!("{:.1}", median.rss_kib as f64 / 1024.0));
        let factor = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.2}"));
        cells.push(factor(row.spread));
        cells.push(factor(median.handoff_ratio));
    }
    cells
}

fn footprint_text(footprint: &Footprint) -> String {
    let mut text = "\nhandoff's memory\n".to_owned();
    for (name, value) in [
        ("idle", &footprint.idle_kib),
        ("after a million requests", &footprint.after_million_kib),
        ("for each idle connection", &footprint.per_connection_kib),
        ("after 50 swaps", &footprint.after_50_swaps_kib),
        ("after 500 swaps", &footprint.after_500_swaps_kib),
    ] {
        let value = match value {
            Ok(kib) if *kib >= 1024.0 => format!("{:.1} MiB", kib / 1024.0),
            Ok(kib) => format!("{kib:.1} KiB"),
            Err(error) => error.clone(),
        };
        let _ = writeln!(text, "  {name:<26} {value}");
    }
    text
}

fn checks_text(checks: &[Check]) -> String {
    let mut text = "\nchecks\n".to_owned();
    for check in checks {
        let verdict = if check.holds { "holds" } else { "FAILS" };
        let what = match (check.value, check.limit, &check.unmeasured) {
            (Some(value), Some(limit), _) => {
                format!("{value:.2} {unit} ≤ {limit:.2} {unit}", unit = check.unit)
            }
            (_, _, reason) => format!(
                "could not be measured: {}",
                reason.as_deref().unwrap_or_default()
            ),
        };
        let _ = writeln!(text, "  {verdict}  {}: {what}", check.name);
    }
    let held = checks.iter().filter(|check| check.holds).count();
    let _ = writeln!(text, "\n{held} of {} figures hold", checks.len());
    text
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::figures::tests::sample;
    use super::*;
    use crate::cli::bench::CaseName;

    fn row(name: TargetName, cpu_us: f64) -> Row {
        Row::new(
            name,
            false,
            vec![sample(cpu_us); 5],
            None,
            &[sample(0.0); 5],
        )
    }

    fn report(refused: Option<&str>) -> BenchReport {
        let none = || Err("it was not measured".to_owned());
        let footprint = Footprint {
            idle_kib: none(),
            after_million_kib: none(),
            per_connection_kib: none(),
            after_50_swaps_kib: none(),
            after_500_swaps_kib: none(),
            swaps_ratio: none(),
        };
        let case = Case {
            name: CaseName::Small,
            offered_rps: None,
            connections: 64,
            seconds: 1.0,
            refused: refused.map(str::to_owned),
            targets: vec![row(TargetName::Direct, 0.0), row(TargetName::Nginx, 20.0)],
        };
        BenchReport {
            schema: 1,
            started: "now".to_owned(),
            machine: Machine::this(),
            quick: false,
            duration_s: 1.0,
            versions: Vec::new(),
            missing: vec![Missing {
                name: TargetName::Caddy,
                reason: "it is not installed".to_owned(),
            }],
            checks: check::all(std::slice::from_ref(&case), &footprint),
            cases: vec![case],
            footprint: Some(footprint),
            passed: Some(false),
        }
    }

    #[test]
    fn a_refused_case_has_no_figures() {
        let good = text(&report(None));
        assert!(good.contains("1,000") && good.contains("nginx"), "{good}");
        assert!(good.contains("0 of 13 figures hold"), "{good}");
        let bad = text(&report(Some("noise")));
        assert!(
            !bad.contains("1,000") && bad.contains("refused: noise"),
            "{bad}"
        );
    }

    #[test]
    fn the_json_has_the_keys_that_were_promised() {
        let json = serde_json::to_value(report(None)).unwrap();
        let case = &json["cases"][0];
        assert_eq!(case["name"], "small");
        let nginx = &case["targets"][1];
        assert_eq!(nginx["name"], "nginx");
        for key in ["rps", "cpu_us", "p50_ms", "p99_ms", "rss_kib"] {
            assert!(nginx[key].is_number(), "{key} in {nginx}");
        }
        assert!(json["footprint"]["idle_kib"].is_null());
    }
}
