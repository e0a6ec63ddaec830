//! The figures as text and as JSON, and the limits that handoff has to keep.

use std::fmt::Write as _;

use serde::Serialize;

use super::figures::{Case, Row};
use super::footprint::Footprint;
use crate::cli::bench::{CaseName, TargetName, name_of};
use crate::report::Machine;
use crate::report::table::{Style, add_row, render, table};
use crate::units::{ms, thousands};

/// Upper limits of handoff's processor time for each request over another's.
const CPU: [(CaseName, TargetName, f64); 9] = [
    (CaseName::Small, TargetName::Nginx, 1.0),
    (CaseName::Small, TargetName::Haproxy, 1.0),
    (CaseName::Small, TargetName::Relay, 1.3),
    (CaseName::NewConnection, TargetName::Nginx, 1.0),
    (CaseName::NewConnection, TargetName::Haproxy, 1.0),
    (CaseName::Large, TargetName::Nginx, 0.8),
    (CaseName::Large, TargetName::Haproxy, 0.8),
    (CaseName::H2c, TargetName::Nginx, 1.0),
    (CaseName::H2cApp, TargetName::Nginx, 1.0),
];

/// All figures.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    pub schema: u32,
    pub started: String,
    pub machine: Machine,
    pub quick: bool,
    pub duration_s: f64,
    pub versions: Vec<Note>,
    /// Targets that could not be measured, with the reasons.
    pub missing: Vec<Note>,
    pub cases: Vec<Case>,
    /// Memory, with --check.
    pub footprint: Option<Footprint>,
    pub checks: Vec<Check>,
    /// Result of the checks, with --check.
    pub passed: Option<bool>,
}

/// A text about a target.
#[derive(Debug, Serialize)]
pub struct Note {
    pub name: TargetName,
    pub text: String,
}

/// A figure and its upper limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: String,
    pub unit: &'static str,
    pub limit: Option<f64>,
    pub value: Option<f64>,
    /// False also when it could not be measured.
    pub holds: bool,
    /// Reason for which it could not be measured.
    pub unmeasured: Option<String>,
}

/// Checks all figures.
pub fn check(cases: &[Case], footprint: &Footprint) -> Vec<Check> {
    let find = |name: CaseName| {
        let case = cases.iter().find(|case| case.name == name);
        case.ok_or_else(|| format!("the case {} was not measured", name_of(name)))
    };
    let ratio = |case: CaseName, rival: TargetName| {
        find(case)?.quoted(TargetName::Handoff)?;
        let ratio = find(case)?.quoted(rival)?.handoff_ratio;
        ratio.ok_or_else(|| "no processor time was counted".to_owned())
    };
    let added = |value: fn(&Row) -> Option<f64>| {
        let case = find(CaseName::HalfLoad)?;
        let of = |name| value(case.quoted(name)?).ok_or_else(|| "it has no round".to_owned());
        Ok((of(TargetName::Handoff)?, of(TargetName::Nginx)?))
    };
    let mut checks = Vec::new();
    for (case, rival, limit) in CPU {
        let (case_name, rival_name) = (name_of(case), name_of(rival));
        let name = format!("{case_name}: CPU per request, handoff / {rival_name}");
        checks.push(Check::new(
            &name,
            "×",
            ratio(case, rival).map(|ratio| (ratio, limit)),
        ));
    }
    for (name, value) in [
        (
            "half-load: p50 added, against nginx's",
            added(|row| row.p50_added_ms),
        ),
        (
            "half-load: p99 added, against nginx's",
            added(|row| row.p99_added_ms),
        ),
    ] {
        checks.push(Check::new(name, "ms", value));
    }
    for (name, unit, value, limit) in [
        ("memory idle", "KiB", &footprint.idle_kib, 15.0 * 1024.0),
        (
            "memory after a million requests on 64 connections",
            "KiB",
            &footprint.after_million_kib,
            30.0 * 1024.0,
        ),
        (
            "memory for each of 5,000 idle connections",
            "KiB",
            &footprint.per_connection_kib,
            12.0,
        ),
        (
            "memory after 500 swaps / after 50",
            "×",
            &footprint.swaps_ratio,
            1.1,
        ),
    ] {
        checks.push(Check::new(
            name,
            unit,
            value.clone().map(|value| (value, limit)),
        ));
    }
    checks
}

// === impl BenchReport ===

impl BenchReport {
    /// Adds checks that have to hold, too.
    pub fn add(&mut self, checks: Vec<Check>) {
        let hold = checks.iter().all(|check| check.holds);
        self.passed = self.passed.map(|passed| passed && hold);
        self.checks.extend(checks);
    }
}

// === impl Check ===

impl Check {
    pub fn new(name: &str, unit: &'static str, figure: Result<(f64, f64), String>) -> Self {
        let measured = figure.as_ref().ok();
        Self {
            name: name.to_owned(),
            unit,
            limit: measured.map(|(_, limit)| *limit),
            value: measured.map(|(value, _)| *value),
            holds: measured.is_some_and(|(value, limit)| value <= limit),
            unmeasured: figure.err(),
        }
    }
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
    for (mark, notes) in [("", &report.versions), ("– ", &report.missing)] {
        for note in notes {
            let _ = writeln!(text, "  {:<15} {mark}{}", name_of(note.name), note.text);
        }
    }
    for case in &report.cases {
        text.push_str(&case_text(case));
    }
    text + &checks_text(&report.checks)
}

/// Returns checks as text.
pub fn checks_text(checks: &[Check]) -> String {
    let mut text = String::new();
    if !checks.is_empty() {
        text.push_str("\nchecks\n");
    }
    for check in checks {
        let verdict = if check.holds { "holds" } else { "FAILS" };
        let what = match (check.value, check.limit) {
            (Some(value), Some(limit)) => {
                format!("{value:.2} {unit} ≤ {limit:.2} {unit}", unit = check.unit)
            }
            _ => check.unmeasured.clone().unwrap_or_default(),
        };
        let _ = writeln!(text, "  {verdict}  {}: {what}", check.name);
    }
    text
}

fn case_text(case: &Case) -> String {
    let rate = case.offered_rps.map(|rate| thousands(rate.round() as u64));
    let rate = rate.map_or_else(String::new, |rate| format!(", {rate} requests/s offered"));
    let mut table = table(&[
        "",
        "req/s",
        "CPU µs",
        "p50",
        "p99",
        "p50 added",
        "p99 added",
        "RSS MiB",
        "spread",
        "handoff/it",
    ]);
    let mut refusals = String::new();
    for row in &case.targets {
        let name = name_of(row.name);
        let is_direct = row.name == TargetName::Direct;
        if let Some(refusal) = row.refusal().filter(|_| !is_direct) {
            let _ = writeln!(refusals, "  {name} is not quoted: {refusal}");
            continue;
        }
        let Some(median) = row.median else { continue };
        let factor = |value: Option<f64>| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
        };
        let cells = vec![
            name,
            thousands(median.rps.round() as u64),
            format!("{:.1}", median.cpu_us),
            ms(Some(median.p50_ms)),
            ms(Some(median.p99_ms)),
            ms(row.p50_added_ms.filter(|_| !is_direct)),
            ms(row.p99_added_ms.filter(|_| !is_direct)),
            format!("{:.1}", median.rss_kib / 1024.0),
            factor(row.spread),
            factor(row.handoff_ratio.filter(|_| !is_direct)),
        ];
        add_row(&mut table, cells);
    }
    format!(
        "\n{} · {} connections{rate}\n{}\n{refusals}",
        name_of(case.name),
        thousands(case.connections as u64),
        render(&table, Style::plain()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::case;
    use super::*;

    const RIVALS: [TargetName; 3] = [TargetName::Relay, TargetName::Nginx, TargetName::Haproxy];
    const CASES: [CaseName; 6] = [
        CaseName::Small,
        CaseName::Large,
        CaseName::NewConnection,
        CaseName::HalfLoad,
        CaseName::H2c,
        CaseName::H2cApp,
    ];

    fn cases(handoff: impl Fn(CaseName) -> (f64, f64), rivals: &[TargetName]) -> Vec<Case> {
        let one = |name: CaseName| {
            let (cpu, ms) = handoff(name);
            let cpu = [cpu; 5];
            let mut targets = vec![(TargetName::Direct, &[0.0; 5][..], 1.0)];
            targets.extend(rivals.iter().map(|rival| (*rival, &[10.0; 5][..], 2.0)));
            targets.push((TargetName::Handoff, &cpu, ms));
            case(name, &targets)
        };
        CASES.into_iter().map(one).collect()
    }

    fn footprint() -> Footprint {
        Footprint {
            idle_kib: Ok(15_360.0),
            after_million_kib: Ok(30_720.0),
            per_connection_kib: Ok(12.0),
            after_50_swaps_kib: Ok(1.0),
            after_500_swaps_kib: Ok(1.1),
            swaps_ratio: Ok(1.1),
        }
    }

    fn failing(cases: &[Case], footprint: &Footprint) -> usize {
        let checks = check(cases, footprint);
        assert_eq!(checks.len(), 15);
        checks.iter().filter(|check| !check.holds).count()
    }

    #[test]
    fn figures_at_their_limits_hold_and_each_can_fail() {
        let good = cases(|_| (8.0, 2.0), &RIVALS);
        assert_eq!(failing(&good, &footprint()), 0);
        for (worse, handoff, expected) in [
            (CaseName::Small, (10.1, 2.0), 2),
            (CaseName::Small, (13.1, 2.0), 3),
            (CaseName::NewConnection, (10.1, 2.0), 2),
            (CaseName::Large, (8.1, 2.0), 2),
            (CaseName::HalfLoad, (8.0, 2.1), 2),
            (CaseName::H2c, (10.1, 2.0), 1),
            (CaseName::H2cApp, (10.1, 2.0), 1),
            (CaseName::HalfLoad, (99.0, 2.0), 0),
        ] {
            let of = |name| if name == worse { handoff } else { (8.0, 2.0) };
            let failing = failing(&cases(of, &RIVALS), &footprint());
            assert_eq!(failing, expected, "{worse:?} {handoff:?}");
        }
        for change in [
            |footprint: &mut Footprint| footprint.idle_kib = Ok(15_361.0),
            |footprint: &mut Footprint| footprint.after_million_kib = Ok(30_721.0),
            |footprint: &mut Footprint| footprint.per_connection_kib = Ok(12.1),
            |footprint: &mut Footprint| footprint.swaps_ratio = Ok(1.11),
            |footprint: &mut Footprint| footprint.swaps_ratio = Err("it ended".to_owned()),
        ] {
            let mut footprint = footprint();
            change(&mut footprint);
            assert_eq!(failing(&good, &footprint), 1);
        }
    }

    #[test]
    fn what_could_not_be_measured_does_not_hold() {
        let missing = cases(|_| (1.0, 1.0), &[TargetName::Nginx]);
        assert_eq!(failing(&missing, &footprint()), 4, "haproxy and the relay");
        assert_eq!(failing(&[], &footprint()), 11);
    }

    #[test]
    fn a_target_that_is_not_quoted_has_no_figures() {
        let mut cases = cases(|_| (8.0, 2.0), &RIVALS);
        assert!(case_text(&cases[0]).contains(" nginx"));
        cases[0].targets[2].failed = Some("lost one".to_owned());
        let text = case_text(&cases[0]);
        assert!(text.contains("nginx is not quoted: lost one"), "{text}");
    }
}
