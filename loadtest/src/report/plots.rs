//! The latency over time with swaps and failures, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::part::Part;
use crate::deploy::swap::Swap;
use crate::tally::Moment;

const P50: RGBColor = RGBColor(52, 125, 191);
const P99: RGBColor = RGBColor(221, 133, 32);
const MAX: RGBColor = RGBColor(176, 184, 196);
const SWAP: RGBColor = RGBColor(188, 222, 205);
const CONTROL: RGBColor = RGBColor(233, 233, 238);
const FAILED: RGBColor = RGBColor(180, 35, 24);
const INK: RGBColor = RGBColor(28, 36, 48);
const DIM: RGBColor = RGBColor(102, 112, 133);
const LINE: RGBColor = RGBColor(228, 231, 236);
const FONT: (&str, u32) = ("sans-serif", 15);
const WIDTH: u32 = 1120;

/// A plot that cannot be drawn; fits "failed to write …: {…}".
#[derive(Debug, thiserror::Error)]
#[error("a plot cannot be drawn: {0}")]
pub struct PlotError(String);

/// A percentile of a moment.
type Value = fn(&Moment) -> Option<f64>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the latency over time of all parts, one after the other.
pub fn picture(parts: &[Part], title: &str) -> Result<String, PlotError> {
    let height = 380;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let (above, below) = area.split_vertically(36);
        draw_title(&above, title, &legend(parts))?;
        draw_latency(&below, parts)?;
        area.present().map_err(failed)?;
    }
    // The page scales the plot.
    let fixed = format!("width=\"{WIDTH}\" height=\"{height}\" ");
    Ok(svg.replacen(&fixed, "", 1))
}

fn legend(parts: &[Part]) -> Vec<(&'static str, RGBColor)> {
    let is_seen = |of: fn(&Part) -> bool| parts.iter().any(of);
    [
        ("p50", P50, true),
        ("p99", P99, true),
        ("max", MAX, true),
        ("swap", SWAP, is_seen(|part| !part.swaps.is_empty())),
        (
            "control run",
            CONTROL,
            is_seen(|part| !part.control_runs.is_empty()),
        ),
        ("failed", FAILED, is_seen(|part| !part.failed.is_empty())),
    ]
    .into_iter()
    .filter_map(|(name, colour, is_seen)| is_seen.then_some((name, colour)))
    .collect()
}

fn draw_title(area: &Area<'_>, title: &str, legend: &[(&str, RGBColor)]) -> Result<(), PlotError> {
    let letters = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let title = Text::new(title, (72, 14), letters(17));
    area.draw(&title).map_err(failed)?;
    // From the right to the left.
    for ((name, colour), place) in legend.iter().rev().zip(1..) {
        let left = WIDTH as i32 - 16 - 96 * place;
        let swatch = Rectangle::new([(left, 16), (left + 12, 26)], colour.filled());
        area.draw(&swatch).map_err(failed)?;
        let name = Text::new(*name, (left + 18, 14), letters(FONT.1));
        area.draw(&name).map_err(failed)?;
    }
    Ok(())
}

fn draw_latency(area: &Area<'_>, parts: &[Part]) -> Result<(), PlotError> {
    let mut end = 0.0;
    let starts = parts.iter().map(|part| {
        let start = end;
        end += part.duration_s;
        (start, part)
    });
    let parts: Vec<(f64, &Part)> = starts.collect();
    let moments = parts.iter().flat_map(|(_, part)| &part.moments);
    let range = log_range(
        moments
            .flat_map(|moment| [moment.p50, moment.max])
            .flatten(),
    );
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..f64::max(end, 1.0), range.clone().log_scale())
        .map_err(failed)?;
    let windows = |of: fn(&Part) -> &[Swap]| -> Vec<(f64, f64)> {
        let windows = parts.iter().flat_map(|(start, part)| {
            let windows = of(part).iter().map(Swap::window_s);
            windows.map(move |(from, to)| (start + from, start + to.unwrap_or(part.duration_s)))
        });
        windows.collect()
    };
    let shaded = [
        (windows(|part| &part.control_runs), CONTROL),
        (windows(|part| &part.swaps), SWAP),
    ];
    for (windows, colour) in shaded {
        let bars = windows.into_iter().map(|(from, to)| {
            Rectangle::new([(from, range.start), (to, range.end)], colour.filled())
        });
        chart.draw_series(bars).map_err(failed)?;
    }
    chart
        .configure_mesh()
        .bold_line_style(LINE)
        .light_line_style(TRANSPARENT)
        .axis_style(DIM)
        .label_style(FONT.into_font().color(&INK))
        .x_desc("seconds of load")
        .y_desc("ms")
        .x_labels(12)
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&|ms| {
            if *ms >= 1.0 {
                format!("{ms:.0}")
            } else {
                format!("{ms}")
            }
        })
        .draw()
        .map_err(failed)?;
    let curves: [(Value, RGBColor, u32); 3] = [
        (|moment| moment.max, MAX, 1),
        (|moment| moment.p99, P99, 2),
        (|moment| moment.p50, P50, 2),
    ];
    for (start, part) in &parts {
        for (value, colour, width) in curves {
            let points = part.moments.iter();
            let points = points.filter_map(|moment| Some((start + moment.at_s, value(moment)?)));
            let line = LineSeries::new(points, colour.stroke_width(width));
            chart.draw_series(line).map_err(failed)?;
        }
        // At the bottom, one mark for each half second with a failure.
        let failures = part
            .moments
            .iter()
            .filter(|moment| !moment.failed.is_empty());
        let marks = failures.map(|moment| {
            let at = (start + moment.at_s, range.start);
            EmptyElement::at(at) + Circle::new((0, -4), 3, FAILED.filled())
        });
        chart.draw_series(marks).map_err(failed)?;
    }
    Ok(())
}

/// Wraps an error of the library. The backend writes to a string and cannot fail by itself.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failed(error: impl ToString) -> PlotError {
    PlotError(error.to_string())
}

/// Returns a range with a margin, so that no line runs along the edge.
fn log_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    if least > most {
        return 1.0..10.0;
    }
    (least.max(0.001) * 0.8)..(most.max(0.002) * 1.25)
}
