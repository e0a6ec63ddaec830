//! The record, for a person.

use std::fmt::Write as _;

use super::bounds::{Bound, median};
use super::record::Record;
use crate::metrics::Example;
use crate::numbers::{ms, thousands};
use crate::report::{
    Style, add_row, failed_counts, joined, lateness, quantile_cells, rendered, table,
};
use crate::scenario::Phases;
use crate::traffic::Class;

/// The whole report.
pub fn text(record: &Record, style: Style) -> String {
    let parts = [
        heading(record, style),
        counts(record, style),
        classes(record, style),
        windows(record, style),
        failures(record, style),
        verdict(record, style),
    ];
    joined(&parts)
}

fn heading(record: &Record, style: Style) -> String {
    let setup = &record.setup;
    let commit = setup.commit.as_ref().map(|commit| format!(" · {commit}"));
    let line = format!(
        "{} · {}{}",
        record.machine,
        setup.started,
        commit.unwrap_or_default(),
    );
    format!(
        "{} · {} swaps, {} shams · {:.1} s of load in {}\n{}",
        style.bold(match setup.strategy.as_str() {
            "handoff" => "proof",
            _ => "every class of traffic, joined with the journal",
        }),
        record.swaps.len(),
        record.shams.len(),
        setup.duration_s,
        count(setup.parts, "part"),
        style.dim(&line),
    )
}

fn counts(record: &Record, style: Style) -> String {
    let rate = record.rate;
    let mut text = format!(
        "  sent    {:>9}   {}/s asked, {}/s reached\n",
        thousands(record.sent),
        thousands(rate.asked.into()),
        thousands(rate.reached.round() as u64),
    );
    let kinds = record.failed.iter().map(|(kind, count)| (*kind, *count));
    text.push_str(&failed_counts(kinds, style));
    let remark = format!(
        "{}; sent again: {}; reopened: {}",
        lateness(&record.lateness_ms),
        thousands(record.sent_again),
        thousands(record.reopened),
    );
    let _ = writeln!(text, "  {}", style.dim(&remark));
    text
}

fn classes(record: &Record, style: Style) -> String {
    let title = style.bold("Latency in ms, from when a request was due");
    if let Some(reason) = &record.latency_withheld {
        return format!("{title}\n  {}", style.bad(&format!("not quoted: {reason}")));
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
        let Some(found) = record.classes.get(&class) else {
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
    format!(
        "{title}{}\n{}",
        style.dim(" (of slow ones, beyond their own time)"),
        rendered(&table, style)
    )
}

fn windows(record: &Record, style: Style) -> String {
    if record.swaps.is_empty() {
        return String::new();
    }
    let mut table = table(&["", "requests", "p50", "p90", "p99", "p99.9", "max"]);
    for (name, quantiles) in [
        (
            "between, kept connection",
            &record.latency_outside_swaps_ms.kept,
        ),
        (
            "between, new connection",
            &record.latency_outside_swaps_ms.new,
        ),
        (
            "during swaps, kept connection",
            &record.latency_in_swaps_ms.kept,
        ),
        (
            "during swaps, new connection",
            &record.latency_in_swaps_ms.new,
        ),
        (
            "during shams, kept connection",
            &record.latency_in_shams_ms.kept,
        ),
        (
            "during shams, new connection",
            &record.latency_in_shams_ms.new,
        ),
    ] {
        let mut row = vec![name.to_owned(), thousands(quantiles.count)];
        row.extend(quantile_cells(quantiles));
        add_row(&mut table, row);
    }
    let phases = record.swaps.iter().map(|swap| {
        let ends = swap.phases.ends();
        ends.map(|end| end.map(|end| end as f64))
    });
    let phases: Vec<_> = phases.collect();
    let medians = Phases::NAMES.iter().enumerate().map(|(at, name)| {
        let median = median(phases.iter().filter_map(|times| times[at]));
        format!(
            "{name} {}",
            median.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}"))
        )
    });
    let medians: Vec<String> = medians.collect();
    let bounds = &record.bounds;
    let decide = match bounds.decide {
        true => "",
        false => " (they decide only the full record)",
    };
    format!(
        "{}\n{}\n\n{}\n  {}\n\n{}{}\n{}{}",
        style.bold("Quick requests, by whether a swap was under way (detected to stopped)"),
        rendered(&table, style),
        style.bold("Swaps, medians in ms since the deploy was written"),
        medians.join(" · "),
        style.bold("Bounds"),
        style.dim(decide),
        bound(
            "p99.9 in swap windows",
            "in shams",
            &bounds.p999_in_swaps,
            style
        ),
        bound(
            "detected to promoted, median",
            "the app's own start",
            &bounds.promoted_after,
            style
        ),
    )
}

fn bound(name: &str, compared: &str, bound: &Bound, style: Style) -> String {
    let holds = match bound.holds {
        true => style.good("holds"),
        false => style.bad("does not hold"),
    };
    format!(
        "  {name}: {} ms, at most {} ({compared}: {})  {holds}\n",
        ms(bound.found_ms),
        ms(bound.limit_ms),
        ms(bound.compared_ms),
    )
}

fn failures(record: &Record, style: Style) -> String {
    if record.examples.is_empty() {
        return String::new();
    }
    let examples = record.examples.iter().map(|example| {
        let Example {
            failed,
            count,
            first_s,
            first_request,
        } = example;
        format!(
            "  {:>6} × {} {first_request}; first at {first_s:.3} s: {}",
            thousands(*count),
            failed.kind,
            failed.detail
        )
    });
    let examples: Vec<String> = examples.collect();
    format!("{}\n{}", style.bold("Failures"), examples.join("\n"))
}

fn verdict(record: &Record, style: Style) -> String {
    if record.passed {
        let swaps = match record.swaps.len() {
            0 => "no swap was asked for".to_owned(),
            swaps => format!("clients saw {}", count(swaps, "swap")),
        };
        let good = style.good("PASSED");
        return format!("{good}  every request was answered once, rightly; {swaps}");
    }
    let bad = style.bad("FAILED");
    format!("{bad}  {}", record.problems.join("\n        "))
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::record::tests::{asked, part};
    use super::*;
    use crate::result::{Failed, Failure};

    #[test]
    fn a_proof_that_holds_says_so_in_its_last_line() {
        let record = Record::new(&[part(1000, 3)], &asked(1000, 3));
        let text = text(&record, Style::plain());
        let last = "PASSED  every request was answered once, rightly; clients saw 3 swaps\n";
        assert!(text.ends_with(last), "{text}");
        assert!(text.contains("promoted 61"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 110, "too wide: {line}");
        }
    }

    #[test]
    fn a_proof_that_does_not_says_why() {
        let mut bad = part(1000, 3);
        bad.failed.insert(Failure::Repeated, 7);
        bad.examples.push(Example {
            failed: Failed::new(Failure::Repeated, "arrived 2 times"),
            count: 7,
            first_s: 1.5,
            first_request: "POST /upload".to_owned(),
        });
        let text = text(&Record::new(&[bad], &asked(1000, 3)), Style::plain());
        assert!(text.contains("repeated 7"), "{text}");
        assert!(text.contains("7 × repeated POST /upload"), "{text}");
        assert!(
            text.contains("FAILED  7 of 1,000 requests failed"),
            "{text}"
        );
    }
}
