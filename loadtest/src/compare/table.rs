//! What was measured, beside each other: for a person, as Markdown and as JSON.

use std::fmt::{Display, Write as _};

use serde::Serialize;

use super::options::{Name, Options};
use crate::numbers::{millis, ms, thousands};
use crate::report::{Style, add_row, joined, median, rendered, table};
use crate::result::Failure;
use crate::summary::{Machine, Summary};

/// What the columns mean, for whoever reads the table alone.
const LEGEND: &str = "  failed      without a whole and right answer; wrong: also an older release after a newer one had answered
  stall       the longest that any request took, from when it was due to its end (answer or failure),
              beyond the wait that it asked for itself
  gap         the longest time in which no request became due that got a right answer
  p99.9       of answered requests that touch a swap, from when each was due; a swap lasts from its deploy
              until the old app is stopped and clients saw the new release
  to traffic  from when the deploy begins (handoff, the article: when the file is written) to the first
              answer of the new release; median / longest";

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    /// All could be run, and handoff failed nothing.
    pub passed: bool,
    pub started: String,
    pub machine: Machine,
    pub asked: Asked,
    pub contenders: Vec<Row>,
    /// Not installed.
    pub skipped: Vec<Skipped>,
}

/// What each was offered.
#[derive(Debug, Serialize)]
pub struct Asked {
    pub rate: u32,
    pub connections: usize,
    pub swaps: u32,
    pub swap_every_ms: u64,
}

#[derive(Debug, Serialize)]
pub struct Skipped {
    pub name: Name,
    pub reason: String,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: Name,
    pub version: String,
    /// Why it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// What clients saw of it.
#[derive(Debug, Serialize)]
pub struct Found {
    pub failed_total: u64,
    pub stall_ms: Option<f64>,
    pub gap_ms: Option<f64>,
    pub p999_in_swaps_ms: Option<f64>,
    /// From the deploy to the first answer of the new release: median and longest.
    pub to_traffic_ms: Option<u64>,
    pub to_traffic_longest_ms: Option<u64>,
    pub summary: Summary,
}

// === impl Report ===

impl Report {
    pub fn new(
        started: String,
        machine: Machine,
        contenders: Vec<Row>,
        skipped: Vec<Skipped>,
        asked: Asked,
    ) -> Self {
        let is_right = |row: &Row| match &row.found {
            Some(found) => row.name != Name::Handoff || found.summary.passed,
            None => false,
        };
        Self {
            schema: 1,
            passed: contenders.iter().all(is_right),
            started,
            machine,
            asked,
            contenders,
            skipped,
        }
    }
}

impl Asked {
    pub fn of(options: &Options) -> Self {
        Self {
            rate: options.rate.get(),
            connections: options.connections.get(),
            swaps: options.swaps,
            swap_every_ms: millis(options.swap_every),
        }
    }

    fn text(&self) -> String {
        format!(
            "{} swaps each, {} requests/s, half on {} kept connections and half on a new one each",
            self.swaps,
            thousands(self.rate.into()),
            self.connections
        )
    }
}

// === impl Row ===

impl Row {
    pub fn new(name: Name, version: String, summary: Result<Summary, impl Display>) -> Self {
        let (broken, found) = match summary {
            Ok(summary) => (None, Some(Found::of(summary))),
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
    fn of(summary: Summary) -> Self {
        let seen = || summary.swaps.iter().filter_map(|swap| swap.seen_ms);
        // The highest of few is not their 99.9th percentile, but it is no less.
        let within = summary.latency_in_swaps_ms.both;
        Self {
            failed_total: summary.failed.total(),
            stall_ms: summary.stall_ms,
            gap_ms: summary.gap_ms,
            p999_in_swaps_ms: within.p999,
            to_traffic_ms: median(seen()),
            to_traffic_longest_ms: seen().max(),
            summary,
        }
    }

    /// How many swaps there were of how many, when that is not all.
    fn remark(&self) -> Option<String> {
        let Summary { setup, swaps, .. } = &self.summary;
        let seen = swaps.iter().filter(|swap| swap.seen_ms.is_some()).count();
        (seen < setup.swaps as usize).then(|| format!("{seen} of {} swaps", setup.swaps))
    }

    fn to_traffic(&self) -> String {
        match (self.to_traffic_ms, self.to_traffic_longest_ms) {
            (Some(median), Some(longest)) => {
                format!("{} / {}", thousands(median), thousands(longest))
            }
            (None, _) | (_, None) => "–".to_owned(),
        }
    }
}

/// For a person.
pub fn text(report: &Report, style: Style) -> String {
    let heading = format!(
        "{}\n{}",
        style.bold(&report.asked.text()),
        style.dim(&format!("{} · {}", report.machine, report.started)),
    );
    let parts = [
        heading,
        figures(report, style),
        style.dim(LEGEND),
        remarks(report, style),
        verdict(report, style),
    ];
    joined(&parts)
}

fn figures(report: &Report, style: Style) -> String {
    let mut headers = vec!["", "sent", "failed"];
    // A kind that nobody had would only make it wide.
    let found = || {
        report
            .contenders
            .iter()
            .filter_map(|row| row.found.as_ref())
    };
    let was_seen = |kind: Failure| {
        let mut counts = found().flat_map(|found| found.summary.failed.iter());
        counts.any(|(other, count)| other == kind && count > 0)
    };
    headers.extend(
        Failure::PLAIN
            .into_iter()
            .filter(|kind| was_seen(*kind))
            .map(Failure::word),
    );
    headers.extend(["stall", "gap", "p99.9", "to traffic"]);
    let mut table = table(&headers);
    for row in &report.contenders {
        let Some(found) = &row.found else { continue };
        let mut cells = vec![
            row.name.title().to_owned(),
            thousands(found.summary.sent),
            thousands(found.failed_total),
        ];
        let kinds = found
            .summary
            .failed
            .iter()
            .filter(|(kind, _)| was_seen(*kind));
        cells.extend(kinds.map(|(_, count)| match count {
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
    format!("times in ms\n{}", rendered(&table, style))
}

fn remarks(report: &Report, style: Style) -> String {
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
            for problem in &found.summary.problems {
                let _ = writeln!(text, "    {problem}");
            }
        }
        if let Some(reason) = &found.summary.latency_withheld {
            let _ = writeln!(text, "  {name}: times are not quoted: {reason}");
        }
        for example in &found.summary.examples {
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

fn verdict(report: &Report, style: Style) -> String {
    if report.passed {
        let handoff = report
            .contenders
            .iter()
            .any(|row| row.name == Name::Handoff);
        return match handoff {
            true => format!("{}  handoff failed no request", style.good("PASSED")),
            false => style.good("PASSED"),
        };
    }
    let why = report.contenders.iter().filter_map(|row| match &row.found {
        None => Some(format!("{} could not be run", row.name.title())),
        Some(found) if row.name == Name::Handoff && !found.summary.passed => {
            Some(format!("handoff: {}", found.summary.problems.join("; ")))
        }
        Some(_) => None,
    });
    let why: Vec<String> = why.collect();
    format!("{}  {}", style.bad("FAILED"), why.join("\n        "))
}

/// The table as a README shows it.
pub fn markdown(report: &Report) -> String {
    let date = report.started.split('T').next().unwrap_or_default();
    let mut text = format!(
        "{date}, {}: {}.\n\n\
         | | sent | failed | by kind | longest stall, ms | longest gap, ms | p99.9 in swaps, ms | artifact to \
         traffic, ms (median / longest) |\n|---|---|---|---|---|---|---|---|\n",
        report.machine,
        report.asked.text()
    );
    for row in &report.contenders {
        let name = row.name.title();
        let Some(found) = &row.found else {
            let broken = row.broken.as_deref().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(text, "| {name} | could not be run: {broken} | | | | | | |");
            continue;
        };
        let kinds = found.summary.failed.iter().filter(|(_, count)| *count > 0);
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{kind} {}", thousands(count)))
            .chain(found.remark())
            .collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            thousands(found.summary.sent),
            thousands(found.failed_total),
            kinds.join(", "),
            ms(found.stall_ms),
            ms(found.gap_ms),
            ms(found.p999_in_swaps_ms),
            found.to_traffic()
        );
    }
    let versions: Vec<String> = report
        .contenders
        .iter()
        .filter(|row| !row.version.is_empty())
        .map(|row| row.version.clone())
        .collect();
    let _ = writeln!(text, "\n{}.", versions.join("; "));
    for Skipped { name, reason } in &report.skipped {
        let _ = writeln!(text, "{} was skipped: {reason}.", name.title());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::StrategyError;
    use crate::summary::tests::{failing, passing};

    fn report(rows: Vec<Row>) -> Report {
        let machine = Machine {
            os: "linux",
            arch: "x86_64",
            cpus: 2,
            cpu: None,
        };
        let skipped = vec![Skipped {
            name: Name::KamalProxy,
            reason: "kamal-proxy is not installed".to_owned(),
        }];
        let asked = Asked {
            rate: 500,
            connections: 64,
            swaps: 3,
            swap_every_ms: 2000,
        };
        let started = "2026-01-02T03:04:05Z".to_owned();
        Report::new(started, machine, rows, skipped, asked)
    }

    fn row(name: Name, summary: Summary) -> Row {
        Row::new(
            name,
            format!("{} 1.2", name.text()),
            Ok::<_, StrategyError>(summary),
        )
    }

    fn broken() -> Row {
        let port = StrategyError::Port(std::io::Error::other("none left"));
        Row::new(Name::Caddy, String::new(), Err(port))
    }

    #[test]
    fn each_is_a_line_with_its_failures_by_kind() {
        let rows = vec![
            row(Name::Handoff, passing()),
            row(Name::StopAndStart, failing()),
        ];
        let report = report(rows);
        let text = text(&report, Style::plain());
        let table = &text[..text.find("\n  failed  ").unwrap()];
        let line = |name: &str| {
            let line = table.lines().find(|line| line.trim().starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("handoff"), "handoff 3 0 – 5.00 1,000 5.00 85 / 85");
        assert_eq!(line("stop"), "stop and start 3 2 2 5.00 0.00 – –");
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
        assert!(passed(vec![row(Name::Nginx, failing())]));
        assert!(!passed(vec![row(Name::Handoff, failing())]));
        let report = report(vec![row(Name::Handoff, passing()), broken()]);
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
        let rows = vec![row(Name::Handoff, passing()), broken()];
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
        assert!(table[2].starts_with("| handoff | 3 | 0 |  | 5.00 | 1,000 | 5.00 | 85 / 85 |"));
        assert!(text.contains("kamal-proxy was skipped"));
    }

    #[test]
    fn the_json_has_what_the_table_says() {
        let json = serde_json::to_value(report(vec![row(Name::Haproxy, failing())])).unwrap();
        let row = &json["contenders"][0];
        assert_eq!(row["name"], "haproxy");
        assert_eq!(row["found"]["failed_total"], 2);
        assert_eq!(row["found"]["summary"]["failed"]["refused"], 2);
        assert_eq!(json["skipped"][0]["name"], "kamal-proxy");
    }
}
