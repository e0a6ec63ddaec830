//! The report as one page of HTML that needs nothing else, and its first plot as a picture.

use std::fmt::Write as _;

use super::part::Part;
use super::plots::{self, Colour, PlotError, Timeline};
use super::table::Style;
use super::{Merged, Report, text};
use crate::generator::outcome::Failure;
use crate::units::{count, thousands};

const STYLE: &str = include_str!("style.css");

/// Returns the whole page.
///
/// # Errors
/// A plot could not be drawn.
pub fn html(report: &Report, parts: &[Part]) -> Result<String, PlotError> {
    let timeline = Timeline::of(parts);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n<h1>{title}</h1>\n<pre>{}</pre>\n",
        escape(&text::text(report, Style::plain())),
        title = escape(&title(report)),
    );
    if report.latency_withheld.is_none() {
        section(
            &mut page,
            "Latency over time",
            "Quick requests in each half second, from when each was due. Shaded: a swap or a control \
             run, which starts a process and hands nothing over.",
            latency_legend(report),
            &plots::latency(&timeline)?,
        );
        let merged = Merged::of(parts);
        let curves = [
            (
                merged.quick(|counts| &counts.outside).curve(),
                plots::OUTSIDE,
            ),
            (
                merged.quick(|counts| &counts.in_controls).curve(),
                plots::IN_CONTROLS,
            ),
            (
                merged.quick(|counts| &counts.in_swaps).curve(),
                plots::IN_SWAPS,
            ),
        ];
        section(
            &mut page,
            "Percentiles during swaps and outside of them",
            "Time that all but a share of the quick requests did not exceed. On few processors a swap \
             also costs the start of a process, as a control run does.",
            &[
                ("between swaps", plots::OUTSIDE),
                ("during control runs", plots::IN_CONTROLS),
                ("during swaps", plots::IN_SWAPS),
            ],
            &plots::percentiles(&curves)?,
        );
    }
    let is_seen = |kind: &Failure| report.failed.get(kind.word()).is_some_and(|n| *n > 0);
    let kinds = Failure::ALL.into_iter().filter(is_seen);
    let kinds: Vec<(&str, Colour)> = kinds
        .map(|kind| (kind.word(), plots::of_failure(kind)))
        .collect();
    let plot = plots::failures(&timeline)?;
    let intro = "Failed requests in each half second.";
    section(&mut page, "Failures over time", intro, &kinds, &plot);
    if !report.swaps.is_empty() {
        section(
            &mut page,
            "Phases of each swap",
            "Time from the deploy to the promotion. The old release drains afterwards, as long as its \
             slowest answer takes.",
            &plots::PHASES,
            &plots::phases(&report.swaps)?,
        );
    }
    page.push_str("</html>\n");
    Ok(page)
}

/// Returns the latency over time as a picture.
///
/// # Errors
/// It could not be drawn.
pub fn picture(report: &Report, parts: &[Part]) -> Result<String, PlotError> {
    let title = format!("{}: latency in each half second", title(report));
    plots::picture(&Timeline::of(parts), &title, latency_legend(report))
}

fn title(report: &Report) -> String {
    format!(
        "{} requests over {}, {} failed",
        thousands(report.sent),
        count(report.swaps.len(), "swap"),
        thousands(report.failures()),
    )
}

fn latency_legend(report: &Report) -> &'static [(&'static str, Colour)] {
    const LEGEND: &[(&str, Colour)] = &[
        ("p50", plots::P50),
        ("p99", plots::P99),
        ("max", plots::MAX),
        ("swap", plots::SWAP),
        ("control run", plots::CONTROL),
    ];
    if report.swaps.is_empty() {
        &LEGEND[..3]
    } else {
        LEGEND
    }
}

fn section(page: &mut String, title: &str, text: &str, legend: &[(&str, Colour)], plot: &str) {
    let _ = write!(
        page,
        "<h2>{title}</h2>\n<p>{text}</p>\n<div class=\"legend\">"
    );
    for (name, (r, g, b)) in legend {
        let _ = write!(
            page,
            "<span><i style=\"background:rgb({r},{g},{b})\"></i>{name}</span>"
        );
    }
    let _ = write!(page, "</div>\n{plot}\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::part;
    use super::*;
    use crate::tally::Moment;

    fn page(change: impl FnOnce(&mut Part)) -> String {
        let mut part = part(1000, 3);
        let moment = |at| Moment {
            at_s: f64::from(at) / 2.0,
            count: 500,
            p50: Some(1.0),
            p99: Some(4.0),
            max: Some(9.0),
            failed: Default::default(),
        };
        part.moments = (0..10).map(moment).collect();
        change(&mut part);
        html(&Report::new(&[part.clone()]), &[part]).unwrap()
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let page = page(|_| ());
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert_eq!(page.matches("<svg").count(), 4);
        for outside in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        let addresses = page.matches("http").count();
        let namespaces = page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(addresses, namespaces);
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
            part.control_runs.clear();
            part.classes.clear();
        });
        assert!(empty.contains("Failures over time"));
    }
}
