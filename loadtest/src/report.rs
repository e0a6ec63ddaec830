//! The summary, for a person.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _};

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::metrics::Example;
use crate::numbers::{ms, thousands};
use crate::scenario::Swap;
use crate::summary::{Quantiles, Summary};

/// With more swaps than this, the first and the last are shown and the rest summed up.
const SWAPS_SHOWN: usize = 24;

/// More kinds of failure than these in a line would be too wide.
const KINDS_IN_A_LINE: usize = 6;

/// How text is set off.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Colours on a terminal, unless NO_COLOR is set.
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: io::stdout().is_terminal() && !unwanted,
        }
    }

    #[cfg(test)]
    pub fn plain() -> Self {
        Self { colour: false }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// The whole report.
pub fn text(summary: &Summary, style: Style) -> String {
    let parts = [
        heading(summary, style),
        counts(summary, style),
        latency(summary, style),
        swaps(&summary.swaps, summary.setup.deploy.is_some(), style),
        failures(summary, style),
        verdict(summary, style),
    ];
    joined(&parts)
}

/// What is not empty of a report's parts, with a blank line between two.
pub fn joined(parts: &[String]) -> String {
    let parts = parts.iter().map(|part| part.trim_end());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    format!("\n{}\n", parts.join("\n\n"))
}

fn heading(summary: &Summary, style: Style) -> String {
    let setup = &summary.setup;
    format!(
        "{} · {} swaps · {:.1} s of load\n{}",
        style.bold(&setup.title),
        summary.swaps.len(),
        setup.duration_s,
        style.dim(&format!("{} · {}", summary.machine, setup.started)),
    )
}

fn counts(summary: &Summary, style: Style) -> String {
    let Summary {
        sent,
        failed,
        rate,
        setup,
        lateness_ms,
        ..
    } = summary;
    let mut text = format!(
        "  sent    {:>9}   {}/s asked, {}/s reached; half on {} kept connections, half on a new one each\n",
        thousands(*sent),
        thousands(rate.asked.into()),
        thousands(rate.reached.round() as u64),
        setup.connections,
    );
    text.push_str(&failed_counts(failed.iter(), style));
    let remark = format!(
        "{}; idle kept connections reopened: {}",
        lateness(lateness_ms),
        thousands(summary.reopened),
    );
    let _ = writeln!(text, "  {}", style.dim(&remark));
    text
}

/// How many failed, and of each kind, in lines of about the same length.
pub fn failed_counts(kinds: impl Iterator<Item = (impl Display, u64)>, style: Style) -> String {
    let painted = |count: u64, text: &str, none: fn(Style, &str) -> String| match count {
        0 => none(style, text),
        _ => style.bad(text),
    };
    let kinds: Vec<_> = kinds.collect();
    let total = kinds.iter().map(|(_, count)| count).sum();
    let shown = painted(total, &format!("{:>9}", thousands(total)), Style::good);
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| painted(*count, &format!("{kind} {}", thousands(*count)), Style::dim))
        .collect();
    let mut text = String::new();
    let lines = kinds.len().div_ceil(KINDS_IN_A_LINE).max(1);
    for (line, kinds) in kinds.chunks(kinds.len().div_ceil(lines).max(1)).enumerate() {
        let kinds = kinds.join("  ");
        let _ = match line {
            0 => writeln!(text, "  failed  {shown}   {kinds}"),
            _ => writeln!(text, "{:22}{kinds}", ""),
        };
    }
    text
}

/// What the generator itself is to blame for.
pub fn lateness(lateness: &Quantiles) -> String {
    format!(
        "the generator was late by {} ms (p50), {} (p99), {} (max)",
        ms(lateness.p50),
        ms(lateness.p99),
        ms(lateness.max),
    )
}

/// p50, p90, p99, p99.9 and the longest, as cells. The highest of few is not their 99th percentile.
pub fn quantile_cells(quantiles: &Quantiles) -> [String; 5] {
    let of = |least: u64, value: Option<f64>| ms(value.filter(|_| quantiles.count >= least));
    [
        of(1, quantiles.p50),
        of(10, quantiles.p90),
        of(100, quantiles.p99),
        of(1000, quantiles.p999),
        of(1, quantiles.max),
    ]
}

fn latency(summary: &Summary, style: Style) -> String {
    let title = style.bold("Latency in ms, from when a request was due");
    if let Some(reason) = &summary.latency_withheld {
        return format!("{title}\n  {}", style.bad(&format!("not quoted: {reason}")));
    }
    let Summary {
        latency_outside_swaps_ms: outside,
        latency_in_swaps_ms: within,
        ..
    } = summary;
    let mut table = table(&["", "requests", "p50", "p90", "p99", "p99.9", "max"]);
    for (name, quantiles) in [
        ("all", &summary.latency_ms),
        ("between swaps, kept connection", &outside.kept),
        ("between swaps, new connection", &outside.new),
        ("during swaps, kept connection", &within.kept),
        ("during swaps, new connection", &within.new),
        (
            "slow answers, beyond their own time",
            &summary.latency_slow_ms,
        ),
    ] {
        let mut row = vec![name.to_owned(), thousands(quantiles.count)];
        row.extend(quantile_cells(quantiles));
        add_row(&mut table, row);
    }
    format!("{title}\n{}", rendered(&table, style))
}

/// Of a deploy `by_command` no more is known than when the command ended.
fn swaps(swaps: &[Swap], by_command: bool, style: Style) -> String {
    if swaps.is_empty() {
        return String::new();
    }
    let headers: &[&str] = if by_command {
        &["release", "clients saw it", "command ended"]
    } else {
        &[
            "release",
            "detected",
            "ready",
            "promoted",
            "clients saw it",
            "old one drained",
            "old one stopped",
        ]
    };
    let times = if by_command { times_of_command } else { times };
    let mut table = table(headers);
    let hidden = if swaps.len() > SWAPS_SHOWN {
        SWAPS_SHOWN / 2..swaps.len() - SWAPS_SHOWN / 2
    } else {
        0..0
    };
    let columns: Vec<Vec<Option<u64>>> = swaps.iter().map(times).collect();
    for (at, (swap, times)) in swaps.iter().zip(&columns).enumerate() {
        if at == hidden.start && !hidden.is_empty() {
            add_row(&mut table, vec![format!("… {} more", hidden.len())]);
        }
        if !hidden.contains(&at) {
            add_row(&mut table, row(&swap.release, times));
        }
    }
    if swaps.len() > 2 {
        let median: Vec<Option<u64>> = (0..headers.len() - 1)
            .map(|column| median(columns.iter().filter_map(|times| times[column])))
            .collect();
        add_row(&mut table, row("median", &median));
    }
    format!(
        "{}\n{}",
        style.bold("Swaps, in ms since the deploy was written"),
        rendered(&table, style)
    )
}

fn times_of_command(swap: &Swap) -> Vec<Option<u64>> {
    vec![swap.seen_ms, swap.phases.stopped_ms]
}

fn times(swap: &Swap) -> Vec<Option<u64>> {
    let phases = &swap.phases;
    vec![
        phases.detected_ms,
        phases.ready_ms,
        phases.promoted_ms,
        swap.seen_ms,
        phases.drained_ms,
        phases.stopped_ms,
    ]
}

fn row(name: &str, times: &[Option<u64>]) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(
        times
            .iter()
            .map(|time| time.map_or_else(|| "–".to_owned(), thousands)),
    );
    row
}

/// The lower one of two in the middle.
pub fn median(times: impl Iterator<Item = u64>) -> Option<u64> {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied()
}

fn failures(summary: &Summary, style: Style) -> String {
    if summary.examples.is_empty() {
        return String::new();
    }
    let title = style.bold("Failures, in the order in which each was first seen");
    let mut table = table(&["times", "first", "", ""]);
    for Example {
        failed,
        count,
        first_s,
        first_request,
    } in &summary.examples
    {
        table.add_row([
            aligned(1, thousands(*count)),
            aligned(1, format!("{first_s:.3} s")),
            aligned(0, failed.kind.to_string()),
            aligned(0, format!("{}; first by {first_request}", failed.detail)),
        ]);
    }
    let shown: u64 = summary.examples.iter().map(|example| example.count).sum();
    let more = summary.failed.total().saturating_sub(shown);
    let more = if more > 0 {
        format!("\n  and {} more", thousands(more))
    } else {
        String::new()
    };
    format!("{title}\n{}{}", rendered(&table, style), style.dim(&more))
}

fn verdict(summary: &Summary, style: Style) -> String {
    if summary.passed {
        let swaps = match summary.swaps.len() {
            0 => "no swap was asked for".to_owned(),
            count if !summary.setup.names_releases => {
                format!("{count} deploys, of which answers tell nothing")
            }
            1 => "clients saw the swap".to_owned(),
            count => format!("clients saw all {count} swaps"),
        };
        return format!("{}  no request failed; {swaps}", style.good("PASSED"));
    }
    format!(
        "{}  {}",
        style.bad("FAILED"),
        summary.problems.join("\n        ")
    )
}

pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(
        headers
            .iter()
            .enumerate()
            .map(|(at, header)| aligned(at, (*header).to_owned())),
    );
    table
}

pub fn add_row(table: &mut Table, row: Vec<String>) {
    table.add_row(
        row.into_iter()
            .enumerate()
            .map(|(at, text)| aligned(at, text)),
    );
}

/// Painted by the line: the table would count the codes of a painted cell as its width.
pub fn rendered(table: &Table, style: Style) -> String {
    let lines = table.lines().enumerate().map(|(at, line)| {
        let line = format!(" {}", line.trim_end());
        if at == 0 { style.dim(&line) } else { line }
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// Names to the left, numbers to the right.
fn aligned(column: usize, text: String) -> Cell {
    let alignment = if column == 0 {
        CellAlignment::Left
    } else {
        CellAlignment::Right
    };
    Cell::new(text).set_alignment(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{failing, passing};

    #[test]
    fn a_passing_run_says_so_in_its_last_line() {
        let text = text(&passing(), Style::plain());
        assert!(
            text.ends_with("PASSED  no request failed; clients saw all 3 swaps\n"),
            "{text}"
        );
        assert!(!text.contains("Failures, in"));
        assert!(!text.contains('\x1b'));
        for line in text.lines() {
            assert!(line.chars().count() <= 110, "too wide: {line}");
        }
    }

    #[test]
    fn a_failing_run_says_why_and_shows_examples() {
        let text = text(&failing(), Style::plain());
        assert!(text.contains("refused 2"), "{text}");
        assert!(text.contains("FAILED  2 of 3 requests failed"), "{text}");
        assert!(text.contains("Failures, in"), "{text}");
    }

    #[test]
    fn columns_of_a_coloured_table_stay_aligned() {
        let plain = text(&passing(), Style::plain());
        let coloured = text(&passing(), Style { colour: true });
        let mut stripped = String::new();
        for part in coloured.split('\x1b') {
            let (code, rest) = part
                .split_once('m')
                .filter(|(code, _)| code.starts_with('['))
                .unwrap_or(("", part));
            assert!(code.len() < 8);
            stripped.push_str(rest);
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn many_swaps_are_cut_in_the_middle() {
        let one = passing().swaps.remove(0);
        let many: Vec<Swap> = (0..100).map(|_| one.clone()).collect();
        let text = swaps(&many, false, Style::plain());
        assert!(text.contains("… 76 more"), "{text}");
        assert!(text.lines().count() < 30);
    }

    #[test]
    fn the_median_of_two_is_the_lower() {
        let median = |times: &[u64]| median(times.iter().copied());
        assert_eq!(
            (median(&[]), median(&[3, 1, 2]), median(&[4, 1])),
            (None, Some(2), Some(1))
        );
    }
}
