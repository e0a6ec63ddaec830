//! The comparison as a table for a terminal, and as JSON.

use std::fmt::{Display, Write as _};

use serde::Serialize;

use crate::cli::compare::ContenderName;
use crate::generator::failure::Failure;
use crate::generator::mix::Class;
use crate::report::table::{Style, add_row, join, render, table};
use crate::report::{Machine, Report};
use crate::units::{median, ms, thousands};

/// Meaning of the columns.
const LEGEND: &str = "  failed      without a whole and right answer; wrong: also an older release after a newer one had answered
  sessions    lost are those that the app no longer knew, or that met another failure; they are among failed
  stall       the longest that any request took, from when it was due to its end (answer or failure),
              beyond the wait that it asked for itself
  gap         the longest time in which no request became due that got a right answer
  p99.9       of answered requests that touch a swap, from when each was due; a swap lasts from its deploy
              until the old app is stopped and clients saw the new release
  to traffic  from when the deploy begins (handoff, the article: when the file is written) to the first
              answer of the new release; median / longest";

/// The whole comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub schema: u32,
    /// All could be run, and handoff failed nothing.
    pub passed: bool,
    pub started: String,
    pub machine: Machine,
    #[serde(rename = "asked")]
    pub load: Load,
    pub contenders: Vec<Row>,
    /// Ways whose programs are not installed.
    pub skipped: Vec<Skipped>,
}

/// The load that each was offered.
#[derive(Debug, Serialize)]
pub struct Load {
    pub rate: u32,
    pub connections: usize,
    pub swaps: u32,
    pub swap_every_ms: u64,
    /// Every fiftieth request begins a session in the app's memory.
    pub has_sessions: bool,
}

#[derive(Debug, Serialize)]
pub struct Skipped {
    pub name: ContenderName,
    pub reason: String,
}

/// One way to deploy.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: ContenderName,
    pub version: String,
    /// Reason for which it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// Figures of its clients.
#[derive(Debug, Serialize)]
pub struct Found {
    pub failed_total: u64,
    /// Number of sessions, and of those among them that the app forgot or that met another failure.
    pub sessions: Option<(u64, u64)>,
    pub stall_ms: Option<f64>,
    pub gap_ms: Option<f64>,
    pub p999_in_swaps_ms: Option<f64>,
    /// Time from the deploy to the first answer of the new release: median and longest.
    pub to_traffic_ms: Option<u64>,
    pub to_traffic_longest_ms: Option<u64>,
    #[serde(rename = "summary")]
    pub report: Report,
}

// === impl Comparison ===

impl Comparison {
    pub fn new(
        started: String,
        machine: Machine,
        contenders: Vec<Row>,
        skipped: Vec<Skipped>,
        load: Load,
    ) -> Self {
        let is_right = |row: &Row| match &row.found {
            Some(found) => row.name != ContenderName::Handoff || found.report.passed,
            None => false,
        };
        Self {
            schema: 1,
            passed: contenders.iter().all(is_right),
            started,
            machine,
            load,
            contenders,
            skipped,
        }
    }
}

impl Load {
    pub(super) fn text(&self) -> String {
        let sessions = if self.has_sessions {
            "; every fiftieth begins a session of up to 11 requests in 4 s"
        } else {
            ""
        };
        format!(
            "{} swaps each, {} requests/s, half on {} kept connections and half on a new one \
             each{sessions}",
            self.swaps,
            thousands(self.rate.into()),
            self.connections
        )
    }
}

// === impl Row ===

impl Row {
    pub fn new(name: ContenderName, version: String, report: Result<Report, impl Display>) -> Self {
        let (broken, found) = match report {
            Ok(report) => (None, Some(Found::of(report))),
            Err(error) => (Some(format!("failed to {error}")), None),
        };
        Self {
            name,
            version,
            broken,
            found,
        }
    }
}

impl Found {
    fn of(report: Report) -> Self {
        let seen = || report.swaps.iter().filter_map(|swap| swap.seen_ms);
        // The highest of few is not their 99.9th percentile, but it is no less.
        let within = report.latency_in_swaps_ms.both;
        Self {
            failed_total: report.failures(),
            sessions: report
                .classes
                .get(&Class::Session)
                .map(|sessions| (sessions.sent, sessions.failed)),
            stall_ms: report.stall_ms,
            gap_ms: report.gap_ms,
            p999_in_swaps_ms: within.p999,
            to_traffic_ms: median(seen().map(|ms| ms as f64)).map(|ms| ms as u64),
            to_traffic_longest_ms: seen().max(),
            report,
        }
    }

    /// Returns the number of swaps that clients saw, unless they saw all.
    pub(super) fn remark(&self) -> Option<String> {
        let Report { setup, swaps, .. } = &self.report;
        let seen = swaps.iter().filter(|swap| swap.seen_ms.is_some()).count();
        let asked = setup.spec.swaps;
        (seen < asked as usize).then(|| format!("{seen} of {asked} swaps"))
    }

    /// Returns the number of sessions that were lost.
    pub(super) fn sessions_lost(&self) -> String {
        let (all, lost) = self.sessions.unwrap_or_default();
        format!("{} of {}", thousands(lost), thousands(all))
    }

    pub(super) fn to_traffic(&self) -> String {
        match (self.to_traffic_ms, self.to_traffic_longest_ms) {
            (Some(median), Some(longest)) => {
                format!("{} / {}", thousands(median), thousands(longest))
            }
            (None, _) | (_, None) => "–".to_owned(),
        }
    }
}

/// Returns the comparison as text.
pub fn text(report: &Comparison, style: Style) -> String {
    let heading = format!(
        "{}\n{}",
        style.bold(&report.load.text()),
        style.dim(&format!("{} · {}", report.machine, report.started)),
    );
    let parts = [
        heading,
        figures(report, style),
        style.dim(LEGEND),
        remarks(report, style),
        verdict(report, style),
    ];
    join(&parts)
}

fn figures(report: &Comparison, style: Style) -> String {
    let mut headers = vec!["", "sent", "failed"];
    if report.load.has_sessions {
        headers.push("sessions lost");
    }
    // A kind that did not occur would only make the table wide.
    let was_seen = |kind: &Failure| {
        let mut found = report
            .contenders
            .iter()
            .filter_map(|row| row.found.as_ref());
        found.any(|found| found.report.failed[kind.word()] > 0)
    };
    let kinds: Vec<Failure> = Failure::PLAIN.iter().copied().filter(was_seen).collect();
    headers.extend(kinds.iter().map(|kind| kind.word()));
    headers.extend(["stall", "gap", "p99.9", "to traffic"]);
    let mut table = table(&headers);
    for row in &report.contenders {
        let Some(found) = &row.found else { continue };
        let mut cells = vec![
            row.name.title().to_owned(),
            thousands(found.report.sent),
            thousands(found.failed_total),
        ];
        if report.load.has_sessions {
            cells.push(found.sessions_lost());
        }
        let counts = kinds.iter().map(|kind| found.report.failed[kind.word()]);
        cells.extend(counts.map(|count| match count {
            0 => "–".to_owned(),
            count => thousands(count),
        }));
        cells.extend([
            ms(found.stall_ms),
            ms(found.gap_ms),
            ms(found.p999_in_swaps_ms),
            found.to_traffic(),
        ]);
        add_row(&mut table, cells);
    }
    format!("times in ms\n{}", render(&table, style))
}

fn remarks(report: &Comparison, style: Style) -> String {
    let mut text = String::new();
    for row in &report.contenders {
        let name = row.name.title();
        if !row.version.is_empty() {
            let _ = writeln!(text, "  {name}: {}", style.dim(&row.version));
        }
        if let Some(broken) = &row.broken {
            let _ = writeln!(text, "  {name}: {}", style.bad(broken));
        }
        let Some(found) = &row.found else { continue };
        if let Some(remark) = found.remark() {
            let _ = writeln!(text, "  {name}: {}", style.bad(&remark));
            for problem in &found.report.problems {
                let _ = writeln!(text, "    {problem}");
            }
        }
        if let Some(reason) = &found.report.latency_withheld {
            let _ = writeln!(text, "  {name}: times are not quoted: {reason}");
        }
        for example in &found.report.examples {
            let _ = writeln!(
                text,
                "    {} × {}: {}",
                thousands(example.count),
                example.failed.kind,
                example.failed.detail
            );
        }
    }
    for Skipped { name, reason } in &report.skipped {
        let _ = writeln!(text, "  {}: skipped, {reason} (--install)", name.title());
    }
    text
}

fn verdict(report: &Comparison, style: Style) -> String {
    if report.passed {
        let handoff = report
            .contenders
            .iter()
            .any(|row| row.name == ContenderName::Handoff);
        let remark = if handoff {
            "  handoff failed no request"
        } else {
            ""
        };
        return format!("{}{remark}", style.good("PASSED"));
    }
    let why = report.contenders.iter().filter_map(|row| match &row.found {
        None => Some(format!("{} could not be run", row.name.title())),
        Some(found) if row.name == ContenderName::Handoff && !found.report.passed => {
            Some(format!("handoff: {}", found.report.problems.join("; ")))
        }
        Some(_) => None,
    });
    let why: Vec<String> = why.collect();
    format!("{}  {}", style.bad("FAILED"), why.join("\n        "))
}

#[cfg(test)]
mod tests {
    use super::super::markdown::markdown;
    use super::*;
    use crate::cli::bench::name_of;
    use crate::deploy::StrategyError;
    use crate::report::part::Part;
    use crate::report::tests::{demo, failing};

    fn report(rows: Vec<Row>) -> Comparison {
        let machine = Machine {
            os: "linux",
            arch: "x86_64",
            cpus: 2,
            cpu: None,
        };
        let skipped = vec![Skipped {
            name: ContenderName::KamalProxy,
            reason: "kamal-proxy is not installed".to_owned(),
        }];
        let load = Load {
            rate: 500,
            connections: 64,
            swaps: 3,
            swap_every_ms: 2000,
            has_sessions: false,
        };
        let started = "2026-01-02T03:04:05Z".to_owned();
        Comparison::new(started, machine, rows, skipped, load)
    }

    fn row(name: ContenderName, part: Part) -> Row {
        Row::new(
            name,
            format!("{} 1.2", name_of(name)),
            Ok::<_, StrategyError>(Report::new(&[part])),
        )
    }

    fn broken() -> Row {
        let port = StrategyError::Port(std::io::Error::other("none left"));
        Row::new(ContenderName::Caddy, String::new(), Err(port))
    }

    #[test]
    fn each_is_a_line_with_its_failures_by_kind() {
        let rows = vec![
            row(ContenderName::Handoff, demo(3)),
            row(ContenderName::StopAndStart, failing()),
        ];
        let report = report(rows);
        let text = text(&report, Style::plain());
        let table = &text[..text.find("\n  failed  ").unwrap()];
        let line = |name: &str| {
            let line = table.lines().find(|line| line.trim().starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("handoff"), "handoff 3 0 – 5.00 1,000 3.00 63 / 63");
        assert_eq!(line("stop"), "stop and start 3 2 2 5.00 1,000 3.00 –");
        assert!(text.contains("kamal-proxy: skipped, kamal-proxy is not installed"));
        assert!(
            text.ends_with("PASSED  handoff failed no request\n"),
            "{text}"
        );
        for line in text.lines() {
            assert!(line.chars().count() <= 110, "too wide: {line}");
        }
    }

    #[test]
    fn only_what_handoff_loses_and_what_could_not_be_run_fails_it() {
        let passed = |rows| report(rows).passed;
        assert!(passed(vec![row(ContenderName::Nginx, failing())]));
        assert!(!passed(vec![row(ContenderName::Handoff, failing())]));
        let report = report(vec![row(ContenderName::Handoff, demo(3)), broken()]);
        assert!(!report.passed);
        let text = text(&report, Style::plain());
        assert!(
            text.ends_with("FAILED  Caddy, reload could not be run\n"),
            "{text}"
        );
        assert!(text.contains("find a free port: none left"), "{text}");
    }

    #[test]
    fn the_markdown_is_one_table_with_date_and_machine() {
        let rows = vec![row(ContenderName::Handoff, demo(3)), broken()];
        let text = markdown(&report(rows));
        assert!(
            text.starts_with("2026-01-02, linux x86_64, 2 CPUs: 3 swaps each"),
            "{text}"
        );
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 4);
        for line in &table {
            assert_eq!(line.matches('|').count(), 9, "{line}");
        }
        assert!(table[2].starts_with("| handoff | 3 | 0 |  | 5.00 | 1,000 | 3.00 | 63 / 63 |"));
        assert!(text.contains("kamal-proxy was skipped"));
    }

    #[test]
    fn the_json_has_what_the_table_says() {
        let json =
            serde_json::to_value(report(vec![row(ContenderName::Haproxy, failing())])).unwrap();
        let row = &json["contenders"][0];
        assert_eq!(row["name"], "haproxy");
        assert_eq!(row["found"]["failed_total"], 2);
        assert_eq!(row["found"]["summary"]["failed"]["refused"], 2);
        assert_eq!(json["skipped"][0]["name"], "kamal-proxy");
    }
}
