//! The record as one page of HTML that needs nothing else.

mod plots;

use std::fmt::Write as _;

use self::plots::{Colour, PlotError, Timeline};
use super::bounds::Bound;
use super::part::{ClassPart, Part};
use super::record::{Merged, Record};
use crate::metrics::Percentiles;
use crate::numbers::{ms, thousands};
use crate::result::Failure;
use crate::summary::Quantiles;
use crate::traffic::Class;

const STYLE: &str = include_str!("style.css");

/// The whole page.
///
/// # Errors
/// A plot could not be drawn.
pub fn html(record: &Record, parts: &[Part]) -> Result<String, PlotError> {
    let timeline = Timeline::of(parts);
    let merged = Merged::of(parts);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>handoff: proof</title>\n<style>\n{STYLE}</style>\n"
    );
    heading(&mut page, record);
    figures(&mut page, record);

    if record.latency_withheld.is_none() {
        section(
            &mut page,
            "Latency over time",
            "Quick requests in each half second, from when each was due. Shaded: a swap was under \
             way, or a sham swap, which starts a process and hands nothing over.",
            latency_legend(record),
            &plots::latency(&timeline)?,
        );
        let quick =
            |histogram: fn(&ClassPart) -> &Percentiles| merged.all(Class::is_quick, histogram);
        let curves = [
            (quick(|part| &part.outside).curve(), plots::OUTSIDE),
            (quick(|part| &part.in_shams).curve(), plots::IN_SHAMS),
            (quick(|part| &part.in_swaps).curve(), plots::IN_SWAPS),
        ];
        section(
            &mut page,
            "Percentiles, in and outside of swaps",
            "How long all but so many of the quick requests took. On few processors a swap also \
             measures the start of a process: so does a sham.",
            &[
                ("between swaps", plots::OUTSIDE),
                ("during shams", plots::IN_SHAMS),
                ("during swaps", plots::IN_SWAPS),
            ][..if record.swaps.is_empty() { 1 } else { 3 }],
            &plots::percentiles(&curves)?,
        );
    }
    let kinds: Vec<(&str, Colour)> = Failure::ALL
        .into_iter()
        .filter(|kind| {
            record
                .failed
                .get(kind.word())
                .is_some_and(|count| *count > 0)
        })
        .map(|kind| (kind.word(), plots::of_failure(kind)))
        .collect();
    let text = match record.failures() {
        0 => {
            "None. Refused, reset, timed out, of a bad status, truncated, wrong, lost, repeated, \
              mixed up or of a wrong release: each would show here."
        }
        _ => "Failed requests in each half second.",
    };
    let plot = plots::failures(&timeline)?;
    section(&mut page, "Failures over time", text, &kinds, &plot);
    if !record.swaps.is_empty() {
        section(
            &mut page,
            "Phases of each swap",
            "Since the deploy was written. The first five, at the top, are the way to traffic; the \
             old release then drains as long as its slowest answer takes (below, all of it).",
            &plots::PHASES,
            &(plots::phases(&record.swaps, false)? + &plots::phases(&record.swaps, true)?),
        );
    }
    classes(&mut page, record);
    page.push_str("</html>\n");
    Ok(page)
}

/// Latency over time, as a picture that stands alone.
///
/// # Errors
/// It could not be drawn.
pub fn picture(record: &Record, parts: &[Part]) -> Result<String, PlotError> {
    let title = format!(
        "{} requests over {} swaps, {} failed: latency in each half second",
        thousands(record.sent),
        record.swaps.len(),
        thousands(record.failures()),
    );
    plots::picture(&Timeline::of(parts), &title, latency_legend(record))
}

fn latency_legend(record: &Record) -> &'static [(&'static str, Colour)] {
    const LEGEND: &[(&str, Colour)] = &[
        ("p50", plots::P50),
        ("p99", plots::P99),
        ("max", plots::MAX),
        ("swap", plots::SWAP),
        ("sham swap", plots::SHAM),
    ];
    match record.swaps.is_empty() {
        true => &LEGEND[..3],
        false => LEGEND,
    }
}

fn heading(page: &mut String, record: &Record) {
    let (setup, machine) = (&record.setup, &record.machine);
    let system = if setup.windows {
        "the Windows program, under Wine"
    } else {
        machine.os
    };
    let cpu = machine.cpu.as_deref().unwrap_or("processor not known");
    let commit = setup.commit.as_deref().unwrap_or("not known");
    let swaps = record.swaps.len();
    let _ = write!(
        page,
        "<h1>{} requests over {swaps} swaps</h1>\n\
         <p>{} a second for {:.0} s in {} part(s) · {} · {}, {} CPUs, {} · {} · commit {}</p>\n",
        thousands(record.sent),
        thousands(record.rate.asked.into()),
        setup.duration_s,
        setup.parts,
        escaped(system),
        machine.arch,
        machine.cpus,
        escaped(cpu),
        escaped(&setup.started),
        escaped(commit),
    );
    let (class, word) = match record.passed {
        true => (
            "verdict",
            "Passed: every request was answered once, rightly",
        ),
        false => ("verdict bad", "Failed"),
    };
    let _ = writeln!(page, "<div class=\"{class}\">{word}</div>");
    if !record.problems.is_empty() {
        page.push_str("<ul class=\"problems\">\n");
        for problem in &record.problems {
            let _ = writeln!(page, "<li>{}</li>", escaped(problem));
        }
        page.push_str("</ul>\n");
    }
}

fn figures(page: &mut String, record: &Record) {
    page.push_str("<div class=\"figures\">\n");
    let mut figure = |value: &str, class: &str, what: &str| {
        let _ = writeln!(
            page,
            "<div class=\"figure\"><b class=\"{class}\">{value}</b><span>{what}</span></div>"
        );
    };
    let good = |is_good| if is_good { "good" } else { "bad" };
    let failures = record.failures();
    figure(&thousands(failures), good(failures == 0), "failed requests");
    figure(
        &format!("{} ms", ms(record.latency_ms.p50)),
        "",
        "p50 of quick requests",
    );
    let mut bound = |bound: &Bound, what: &str, than: &str| {
        let text = format!(
            "{what}; at most {} ms ({than}: {} ms){}",
            ms(bound.limit_ms),
            ms(bound.compared_ms),
            match record.bounds.decide {
                true => "",
                false => "; decides only the full record",
            }
        );
        let value = format!("{} ms", ms(bound.found_ms));
        figure(&value, good(bound.holds), &text);
    };
    if !record.swaps.is_empty() {
        bound(
            &record.bounds.p999_in_swaps,
            "p99.9 during swaps",
            "in shams",
        );
        bound(
            &record.bounds.promoted_after,
            "detected to promoted",
            "the app's own start",
        );
    }
    page.push_str("</div>\n");
}

fn section(page: &mut String, title: &str, text: &str, legend: &[(&str, Colour)], plot: &str) {
    let _ = write!(
        page,
        "<h2>{title}</h2>\n<p>{text}</p>\n<div class=\"legend\">"
    );
    for (name, colour) in legend {
        let (r, g, b) = *colour;
        let _ = write!(
            page,
            "<span><i style=\"background:rgb({r},{g},{b})\"></i>{name}</span>"
        );
    }
    let _ = write!(page, "</div>\n<div class=\"plot\">{plot}</div>\n");
}

fn classes(page: &mut String, record: &Record) {
    page.push_str(
        "<h2>Classes of traffic</h2>\n<p>Latency in ms from when a request was due; of slow \
         answers, streams, WebSockets and chunked uploads what they took beyond their own \
         time.</p>\n<div class=\"wide\"><table>\n<tr><th></th><th>sent</th><th>failed</th>\
         <th>p50</th><th>p99</th><th>p99.9</th><th>max</th><th>p99.9 between swaps</th>\
         <th>p99.9 in swaps</th><th>p99.9 in shams</th><th>service p99</th></tr>\n",
    );
    for class in Class::ALL {
        let Some(found) = record.classes.get(&class) else {
            continue;
        };
        // The highest of few is not their percentile.
        let p999 = |quantiles: &Quantiles| ms(quantiles.p999.filter(|_| quantiles.count >= 1000));
        let latency = &found.latency_ms;
        let cells = [
            thousands(found.sent),
            thousands(found.failed),
            ms(latency.p50),
            ms(latency.p99),
            p999(latency),
            ms(latency.max),
            p999(&found.outside_swaps_ms),
            p999(&found.in_swaps_ms),
            p999(&found.in_shams_ms),
            ms(found.service_ms.p99),
        ];
        let cells: String = cells
            .iter()
            .map(|cell| format!("<td>{cell}</td>"))
            .collect();
        let _ = writeln!(page, "<tr><td>{}</td>{cells}</tr>", class.name());
    }
    page.push_str("</table></div>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{asked, part};
    use super::*;
    use crate::prove::part::Moment;

    fn page(change: impl FnOnce(&mut Part)) -> String {
        let mut part = part(1000, 3);
        part.moments = (0..10)
            .map(|at| Moment {
                at_s: f64::from(at) / 2.0,
                count: 500,
                p50: Some(1.0),
                p99: Some(4.0),
                max: Some(9.0),
                failed: Default::default(),
            })
            .collect();
        change(&mut part);
        html(&Record::new(&[part.clone()], &asked(1000, 3)), &[part]).unwrap()
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let page = page(|_| ());
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert_eq!(page.matches("<svg").count(), 5);
        for outside in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        let addresses = page.matches("http").count();
        assert_eq!(
            addresses,
            page.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn failures_and_problems_are_on_the_page_and_nothing_of_them_is_markup() {
        let page = page(|part| {
            part.failed.insert(Failure::Lost, 2);
            part.moments[3].failed.insert(Failure::Lost, 2);
            part.problems.push("<b>&".to_owned());
        });
        assert!(page.contains("</i>lost</span>"), "a legend");
        assert!(page.contains("2 of 1,000 requests failed"));
        assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>&"));
    }

    #[test]
    fn a_page_is_drawn_of_whatever_there_is() {
        let empty = page(|part| {
            part.moments.clear();
            part.swaps.clear();
            part.shams.clear();
            part.classes.clear();
        });
        assert!(empty.contains("Failures over time"));
    }
}
