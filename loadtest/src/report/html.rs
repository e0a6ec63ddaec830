//! The report as one page of HTML that needs nothing else, and its plot as a picture.

use super::part::Part;
use super::plots::{self, PlotError};
use super::table::Style;
use super::{Report, text};
use crate::units::{count, thousands};

const STYLE: &str =
    "body { margin: 2rem auto; max-width: 76rem; font: 15px/1.5 system-ui, sans-serif; }
pre { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; }
";

/// Returns the whole page.
pub fn html(report: &Report, parts: &[Part]) -> Result<String, PlotError> {
    let plot = if report.latency_withheld.is_some() {
        String::new()
    } else {
        picture(report, parts)?
    };
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n{plot}\n<pre>{}</pre>\n</html>\n",
        escape(&text::text(report, Style::plain())),
        title = escape(&title(report)),
    ))
}

/// Returns the latency over time as a picture.
pub fn picture(report: &Report, parts: &[Part]) -> Result<String, PlotError> {
    let title = format!("{}: latency in each half second", title(report));
    plots::picture(parts, &title)
}

fn title(report: &Report) -> String {
    format!(
        "{} requests over {}, {} failed",
        thousands(report.sent),
        count(report.swaps.len(), "swap"),
        thousands(report.failures()),
    )
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
    use crate::generator::failure::Failure;
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
        assert_eq!(page.matches("<svg").count(), 1);
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
        assert!(page.contains("<circle"), "a mark");
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
        assert!(empty.contains("<svg"));
    }
}
