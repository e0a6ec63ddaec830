//! The report as text.

use std::fmt::Write as _;

use super::bounds::Bound;
use super::table::{Style, add_row, join, render, table};
use super::{Quantiles, Report};
use crate::deploy::swap::Swap;
use crate::generator::mix::Class;
use crate::units::{count, median, ms, thousands};

/// Number of swaps from which on only the first and the last are shown.
const SWAPS_SHOWN: usize = 24;

/// Maximum number of kinds of failures in a line.
const KINDS_IN_A_LINE: usize = 6;

/// Returns the whole report.
pub fn text(report: &Report, style: Style) -> String {
    let parts = [
        heading(report, style),
        counts(report, style),
        latency(report, style),
        classes(report, style),
        swaps(&report.swaps, report.setup.spec.deploy.is_some(), style),
        bounds(report, style),
        failures(report, style),
        verdict(report, style),
    ];
    join(&parts)
}

fn heading(report: &Report, style: Style) -> String {
    let setup = &report.setup;
    let mut first = format!(
        "{} · {}",
        style.bold(&setup.spec.title),
        count(report.swaps.len(), "swap")
    );
    if !report.control_runs.is_empty() {
        let controls = count(report.control_runs.len(), "control run");
        let _ = write!(first, ", {controls}");
    }
    let _ = write!(first, " · {:.1} s of load", setup.duration_s);
    if setup.parts > 1 {
        let _ = write!(first, " in {} parts", setup.parts);
    }
    let mut second = format!("{} · {}", report.machine, setup.started);
    if let Some(commit) = &setup.spec.commit {
        let _ = write!(second, " · {commit}");
    }
    format!("{first}\n{}", style.dim(&second))
}

fn counts(report: &Report, style: Style) -> String {
    let (rate, lateness) = (report.rate, &report.lateness_ms);
    let connections = if report.setup.spec.has_journal {
        String::new()
    } else {
        let kept = report.setup.spec.connections;
        format!("; half on {kept} kept connections, half on a new one each")
    };
    let mut text = format!(
        "  sent    {:>9}   {}/s asked, {}/s reached{connections}\n",
        thousands(report.sent),
        thousands(rate.asked.into()),
        thousands(rate.reached.round() as u64),
    );
    text.push_str(&failed_counts(report, style));
    let mut remark = format!(
        "the generator was late by {} ms (p50), {} (p99), {} (max); idle kept connections reopened: {}",
        ms(lateness.p50),
        ms(lateness.p99),
        ms(lateness.max),
        thousands(report.reopened),
    );
    if report.setup.spec.has_journal {
        let _ = write!(remark, "\n  sent again: {}", thousands(report.sent_again));
    }
    let _ = writeln!(text, "  {}", style.dim(&remark));
    text
}

/// Returns the number of failures and of each kind, in lines of about the same length.
fn failed_counts(report: &Report, style: Style) -> String {
    let paint = |count: u64, text: &str, none: fn(Style, &str) -> String| match count {
        0 => none(style, text),
        _ => style.bad(text),
    };
    let total = report.failures();
    let shown = paint(total, &format!("{:>9}", thousands(total)), Style::good);
    let kinds = report.failed.iter();
    let kinds: Vec<String> = kinds
        .map(|(kind, count)| paint(*count, &format!("{kind} {}", thousands(*count)), Style::dim))
        .collect();
    let lines = kinds.len().div_ceil(KINDS_IN_A_LINE).max(1);
    let mut text = format!("  failed  {shown}   ");
    for (line, kinds) in kinds.chunks(kinds.len().div_ceil(lines).max(1)).enumerate() {
        let indent = if line == 0 { 0 } else { 22 };
        let _ = writeln!(text, "{:indent$}{}", "", kinds.join("  "));
    }
    text
}

/// Returns p50, p90, p99, p99.9 and the longest as cells. The highest of few is not their 99th
/// percentile.
fn quantile_cells(quantiles: &Quantiles) -> [String; 5] {
    let of = |least: u64, value: Option<f64>| ms(value.filter(|_| quantiles.count >= least));
    [
        of(1, quantiles.p50),
        of(10, quantiles.p90),
        of(100, quantiles.p99),
        of(1000, quantiles.p999),
        of(1, quantiles.max),
    ]
}

fn latency(report: &Report, style: Style) -> String {
    let title = style.bold("Latency in ms, from when a request was due");
    if let Some(reason) = &report.latency_withheld {
        return format!("{title}\n  {}", style.bad(&format!("not quoted: {reason}")));
    }
    let Report {
        latency_outside_swaps_ms: outside,
        latency_in_swaps_ms: within,
        latency_in_control_runs_ms: controls,
        ..
    } = report;
    let mut table = table(&["", "requests", "p50", "p90", "p99", "p99.9", "max"]);
    for (name, quantiles) in [
        ("all", &report.latency_ms),
        ("between swaps, kept connection", &outside.kept),
        ("between swaps, new connection", &outside.new),
        ("during swaps, kept connection", &within.kept),
        ("during swaps, new connection", &within.new),
        ("during control runs, kept connection", &controls.kept),
        ("during control runs, new connection", &controls.new),
        (
            "slow answers, beyond their own time",
            &report.latency_slow_ms,
        ),
    ] {
        if quantiles.count == 0 && name.contains("control") {
            continue;
        }
        let mut row = vec![name.to_owned(), thousands(quantiles.count)];
        row.extend(quantile_cells(quantiles));
        add_row(&mut table, row);
    }
    format!("{title}\n{}", render(&table, style))
}

fn classes(report: &Report, style: Style) -> String {
    if !report.setup.spec.has_journal || report.latency_withheld.is_some() {
        return String::new();
    }
    let mut table = table(&[
        "",
        "sent",
        "failed",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "service p99",
    ]);
    for class in Class::ALL {
        let Some(found) = report.classes.get(&class) else {
            continue;
        };
        let mut row = vec![
            class.name().to_owned(),
            thousands(found.sent),
            thousands(found.failed),
        ];
        row.extend(quantile_cells(&found.latency_ms));
        row.push(ms(found.service_ms.p99));
        add_row(&mut table, row);
    }
    let title = style.bold("Classes of traffic");
    format!("{title}\n{}", render(&table, style))
}

/// Returns the table of swaps. Of a deploy `by_command` no more is known than when it ended.
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
    let times = |swap: &Swap| {
        let phases = &swap.phases;
        if by_command {
            return vec![swap.seen_ms, phases.stopped_ms];
        }
        vec![
            phases.detected_ms,
            phases.ready_ms,
            phases.promoted_ms,
            swap.seen_ms,
            phases.drained_ms,
            phases.stopped_ms,
        ]
    };
    let mut table = table(headers);
    let hidden = if swaps.len() > SWAPS_SHOWN {
        SWAPS_SHOWN / 2..swaps.len() - SWAPS_SHOWN / 2
    } else {
        0..0
    };
    let rows: Vec<Vec<Option<u64>>> = swaps.iter().map(times).collect();
    for (at, (swap, times)) in swaps.iter().zip(&rows).enumerate() {
        if at == hidden.start && !hidden.is_empty() {
            add_row(&mut table, vec![format!("… {} more", hidden.len())]);
        }
        if !hidden.contains(&at) {
            add_row(&mut table, row(&swap.release, times.iter().copied()));
        }
    }
    if swaps.len() > 2 {
        let of = |column: usize| {
            let times = rows.iter().filter_map(|row| row[column]);
            median(times.map(|ms| ms as f64)).map(|ms| ms as u64)
        };
        let medians = (0..headers.len() - 1).map(of);
        add_row(&mut table, row("median", medians));
    }
    let title = style.bold("Swaps, in ms since the deploy was written");
    format!("{title}\n{}", render(&table, style))
}

fn row(name: &str, times: impl Iterator<Item = Option<u64>>) -> Vec<String> {
    let times = times.map(|time| time.map_or_else(|| "–".to_owned(), thousands));
    [name.to_owned()].into_iter().chain(times).collect()
}

fn bounds(report: &Report, style: Style) -> String {
    let Some(bounds) = report.bounds.as_ref().filter(|_| !report.swaps.is_empty()) else {
        return String::new();
    };
    let bound = |name: &str, compared: &str, bound: &Bound| {
        let holds = if bound.holds {
            style.good("holds")
        } else {
            style.bad("does not hold")
        };
        format!(
            "  {name}: {} ms, at most {} ({compared}: {})  {holds}",
            ms(bound.found_ms),
            ms(bound.limit_ms),
            ms(bound.compared_ms),
        )
    };
    let remark = if bounds.decide {
        ""
    } else {
        " (they decide only a full record)"
    };
    let swaps = bound("p99.9 during swaps", "control runs", &bounds.p999_in_swaps);
    let name = "detected to promoted, median";
    let promoted = bound(name, "the app's own start", &bounds.promoted_after);
    let title = style.bold("Bounds");
    format!("{title}{}\n{swaps}\n{promoted}", style.dim(remark))
}

fn failures(report: &Report, style: Style) -> String {
    if report.examples.is_empty() {
        return String::new();
    }
    let title = style.bold("Failures, in the order in which each was first seen");
    let lines = report.examples.iter().map(|example| {
        format!(
            "  {:>6} × {}; first at {:.3} s by {}: {}",
            thousands(example.count),
            example.failed.kind,
            example.first_s,
            example.first_request,
            example.failed.detail,
        )
    });
    let lines: Vec<String> = lines.collect();
    let shown: u64 = report.examples.iter().map(|example| example.count).sum();
    let more = match report.failures().saturating_sub(shown) {
        0 => String::new(),
        more => format!("\n  and {} more", thousands(more)),
    };
    format!("{title}\n{}{}", lines.join("\n"), style.dim(&more))
}

fn verdict(report: &Report, style: Style) -> String {
    if !report.passed {
        let problems = report.problems.join("\n        ");
        return format!("{}  {problems}", style.bad("FAILED"));
    }
    let swaps = match report.swaps.len() {
        0 => "no swap was asked for".to_owned(),
        count if !report.setup.spec.names_releases => {
            format!("{count} deploys, of which answers tell nothing")
        }
        1 => "clients saw the swap".to_owned(),
        count => format!("clients saw all {count} swaps"),
    };
    let requests = if report.setup.spec.has_journal {
        "every request was answered once, rightly"
    } else {
        "no request failed"
    };
    format!("{}  {requests}; {swaps}", style.good("PASSED"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{demo, failing, part};
    use super::*;

    #[test]
    fn a_passing_run_says_so_in_its_last_line() {
        let text = text(&Report::new(&[demo(3)]), Style::plain());
        let last = "PASSED  no request failed; clients saw all 3 swaps\n";
        assert!(text.ends_with(last), "{text}");
        assert!(!text.contains("Failures, in"));
        assert!(!text.contains('\x1b'));
        for line in text.lines() {
            assert!(line.chars().count() <= 120, "too wide: {line}");
        }
    }

    #[test]
    fn a_run_with_a_journal_shows_its_classes_and_bounds() {
        let text = text(&Report::new(&[part(1000, 3)]), Style::plain());
        let last = "PASSED  every request was answered once, rightly; clients saw all 3 swaps\n";
        assert!(text.ends_with(last), "{text}");
        assert!(
            text.contains("detected to promoted, median: 59.0 ms"),
            "{text}"
        );
        assert!(text.contains("WebSocket"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 120, "too wide: {line}");
        }
    }

    #[test]
    fn a_failing_run_says_why_and_shows_examples() {
        let text = text(&Report::new(&[failing()]), Style::plain());
        assert!(text.contains("refused 2"), "{text}");
        assert!(text.contains("FAILED  2 of 3 requests failed"), "{text}");
        assert!(
            text.contains("2 × refused; first at 1.500 s by GET /"),
            "{text}"
        );
    }

    #[test]
    fn columns_of_a_coloured_table_stay_aligned() {
        let report = Report::new(&[demo(3)]);
        let plain = text(&report, Style::plain());
        let coloured = text(&report, Style::coloured());
        let mut stripped = String::new();
        for part in coloured.split('\x1b') {
            let code = part
                .split_once('m')
                .filter(|(code, _)| code.starts_with('['));
            stripped.push_str(code.map_or(part, |(_, rest)| rest));
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn many_swaps_are_cut_in_the_middle() {
        let many = demo(100).swaps;
        let text = swaps(&many, false, Style::plain());
        assert!(text.contains("… 76 more"), "{text}");
        assert!(text.lines().count() < 30);
    }
}
