//! The plots of a report, as SVG.

use std::ops::Range;

use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::part::Part;
use crate::deploy::swap::{Phases, Swap};
use crate::generator::outcome::Failure;
use crate::tally::Moment;

/// A colour: red, green, blue.
pub type Colour = (u8, u8, u8);

pub const P50: Colour = (52, 125, 191);
pub const P99: Colour = (221, 133, 32);
pub const MAX: Colour = (176, 184, 196);
pub const SWAP: Colour = (188, 222, 205);
pub const CONTROL: Colour = (233, 233, 238);
pub const OUTSIDE: Colour = (102, 112, 133);
pub const IN_CONTROLS: Colour = (221, 133, 32);
pub const IN_SWAPS: Colour = (18, 134, 92);

/// Phases of a swap in their order.
pub const PHASES: [(&str, Colour); 5] = [
    (Phases::NAMES[0], (152, 162, 179)),
    (Phases::NAMES[1], (83, 140, 198)),
    (Phases::NAMES[2], (36, 82, 143)),
    (Phases::NAMES[3], (240, 178, 70)),
    (Phases::NAMES[4], (18, 134, 92)),
];

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

/// All parts, one after the other.
#[derive(Debug)]
pub struct Timeline<'a> {
    /// The parts and their starts, in seconds.
    parts: Vec<(f64, &'a Part)>,
    end: f64,
}

// === impl Timeline ===

impl<'a> Timeline<'a> {
    pub fn of(parts: &'a [Part]) -> Self {
        let mut end = 0.0;
        let parts = parts.iter().map(|part| {
            let start = end;
            end += part.duration_s;
            (start, part)
        });
        Self {
            parts: parts.collect(),
            end,
        }
    }

    fn range(&self) -> Range<f64> {
        0.0..self.end.max(1.0)
    }

    fn windows(&self, of: fn(&Part) -> &[Swap]) -> Vec<(f64, f64)> {
        let windows = self.parts.iter().flat_map(|(start, part)| {
            let windows = of(part).iter().map(Swap::window_s);
            windows.map(move |(from, to)| (start + from, start + to.unwrap_or(part.duration_s)))
        });
        windows.collect()
    }

    fn moments(&self) -> impl Iterator<Item = (f64, &Moment)> {
        self.parts.iter().flat_map(|(start, part)| {
            let moments = part.moments.iter();
            moments.map(move |moment| (start + moment.at_s, moment))
        })
    }
}

/// Draws percentiles of each moment, with the swaps behind them.
pub fn latency(timeline: &Timeline<'_>) -> Result<String, PlotError> {
    draw(320, |area| latency_on(area, timeline))
}

/// Draws the same as a picture with a title and a legend.
pub fn picture(
    timeline: &Timeline<'_>,
    title: &str,
    legend: &[(&str, Colour)],
) -> Result<String, PlotError> {
    draw(380, |area| {
        area.fill(&WHITE).map_err(failed)?;
        let (above, below) = area.split_vertically(36);
        let letters = ("sans-serif", 17).into_font().color(&INK);
        above
            .draw(&Text::new(title, (72, 14), letters))
            .map_err(failed)?;
        // From the right to the left.
        for ((name, colour), place) in legend.iter().rev().zip(1..) {
            let left = WIDTH as i32 - 16 - 96 * place;
            let swatch = Rectangle::new([(left, 16), (left + 12, 26)], rgb(*colour).filled());
            above.draw(&swatch).map_err(failed)?;
            let letters = FONT.into_font().color(&INK);
            above
                .draw(&Text::new(*name, (left + 18, 14), letters))
                .map_err(failed)?;
        }
        latency_on(&below, timeline)
    })
}

fn latency_on(area: &Area<'_>, timeline: &Timeline<'_>) -> Result<(), PlotError> {
    let moments = timeline.moments();
    let all = moments.flat_map(|(_, moment)| [moment.p50, moment.max]);
    let range = log_range(all.flatten());
    let mut chart = framed(area)
        .build_cartesian_2d(timeline.range(), range.clone().log_scale())
        .map_err(failed)?;
    let shaded = [
        (timeline.windows(|part| &part.control_runs), CONTROL),
        (timeline.windows(|part| &part.swaps), SWAP),
    ];
    for (windows, colour) in shaded {
        let bars = windows.into_iter().map(|(from, to)| {
            Rectangle::new([(from, range.start), (to, range.end)], rgb(colour).filled())
        });
        chart.draw_series(bars).map_err(failed)?;
    }
    styled(&mut chart.configure_mesh())
        .x_desc("seconds of load")
        .y_desc("ms")
        .x_labels(12)
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&|ms| short(*ms))
        .draw()
        .map_err(failed)?;
    let curves: [(Value, Colour, u32); 3] = [
        (|moment| moment.max, MAX, 1),
        (|moment| moment.p99, P99, 2),
        (|moment| moment.p50, P50, 2),
    ];
    for (value, colour, width) in curves {
        // Between two parts there was no load.
        for (start, part) in &timeline.parts {
            let points = part
                .moments
                .iter()
                .filter_map(|moment| Some((start + moment.at_s, value(moment)?)));
            chart
                .draw_series(LineSeries::new(points, rgb(colour).stroke_width(width)))
                .map_err(failed)?;
        }
    }
    Ok(())
}

/// Draws curves of latency over the nines of a share; see `Histogram::curve`.
pub fn percentiles(curves: &[(Vec<(f64, f64)>, Colour)]) -> Result<String, PlotError> {
    let points = || curves.iter().flat_map(|(points, _)| points);
    let nines = points().map(|(nines, _)| *nines).fold(3.0, f64::max);
    let range = log_range(points().map(|(_, ms)| *ms));
    draw(340, |area| {
        let mut chart = framed(area)
            .build_cartesian_2d(0.0..nines, range.log_scale())
            .map_err(failed)?;
        styled(&mut chart.configure_mesh())
            .x_desc("share of requests that took no longer")
            .y_desc("ms")
            // Whole nines only.
            .x_labels(nines as usize + 1)
            .x_label_formatter(&|nines| share(*nines))
            .y_label_formatter(&|ms| short(*ms))
            .draw()
            .map_err(failed)?;
        for (points, colour) in curves {
            let line = LineSeries::new(points.iter().copied(), rgb(*colour).stroke_width(3));
            chart.draw_series(line).map_err(failed)?;
        }
        Ok(())
    })
}

/// Draws the failed requests of each moment, by kind.
pub fn failures(timeline: &Timeline<'_>) -> Result<String, PlotError> {
    let totals = timeline
        .moments()
        .map(|(_, moment)| moment.failed.values().sum::<u64>());
    let most = totals.max().unwrap_or(0);
    draw(if most == 0 { 130 } else { 220 }, |area| {
        let mut chart = framed(area)
            .build_cartesian_2d(timeline.range(), 0.0..most.max(1) as f64 * 1.05)
            .map_err(failed)?;
        styled(&mut chart.configure_mesh())
            .x_desc("seconds of load")
            .x_labels(12)
            .x_label_formatter(&|second| format!("{second:.0}"))
            .y_labels(if most < 4 { 2 } else { 5 })
            .y_label_formatter(&|count| format!("{count:.0}"))
            .draw()
            .map_err(failed)?;
        // A moment is half a second, which would be thinner than a pixel in a long run.
        let half = (timeline.range().end / f64::from(WIDTH)).max(0.25);
        let mut bars = Vec::new();
        for (at, moment) in timeline.moments() {
            let mut below = 0.0;
            for (kind, count) in &moment.failed {
                let above = below + *count as f64;
                let corners = [(at - half, below), (at + half, above)];
                bars.push(Rectangle::new(corners, rgb(of_failure(*kind)).filled()));
                below = above;
            }
        }
        chart.draw_series(bars).map_err(failed)?;
        Ok(())
    })
}

/// Draws each swap as a bar of its phases up to its promotion, which the old release outlasts.
pub fn phases(swaps: &[Swap]) -> Result<String, PlotError> {
    let ends = swaps.iter().map(|swap| {
        let ends = swap.phases.ends();
        ends[..PHASES.len()].to_vec()
    });
    let ends: Vec<Vec<Option<u64>>> = ends.collect();
    let most = ends.iter().flatten().flatten().max().copied().unwrap_or(1);
    draw(220, |area| {
        let mut chart = framed(area)
            .build_cartesian_2d(
                0.4..swaps.len() as f64 + 0.6,
                0.0..most.max(1) as f64 * 1.05,
            )
            .map_err(failed)?;
        styled(&mut chart.configure_mesh())
            .disable_x_mesh()
            .x_desc("swap")
            .y_desc("ms")
            .x_labels(swaps.len().min(20))
            .x_label_formatter(&|number| format!("{number:.0}"))
            .y_labels(5)
            .y_label_formatter(&|ms| short(*ms))
            .draw()
            .map_err(failed)?;
        let mut bars = Vec::new();
        for (ends, number) in ends.iter().zip(1..) {
            let mut below = 0.0;
            let middle = f64::from(number);
            for (end, (_, colour)) in ends.iter().zip(PHASES) {
                let Some(end) = end else {
                    continue;
                };
                let above = (*end as f64).max(below);
                let corners = [(middle - 0.38, below), (middle + 0.38, above)];
                bars.push(Rectangle::new(corners, rgb(colour).filled()));
                below = above;
            }
        }
        chart.draw_series(bars).map_err(failed)?;
        Ok(())
    })
}

/// Returns the colour of a kind of failure.
pub fn of_failure(kind: Failure) -> Colour {
    match kind {
        Failure::Refused => (180, 35, 24),
        Failure::Reset => (221, 133, 32),
        Failure::Timeout => (102, 112, 133),
        Failure::Status => (122, 90, 248),
        Failure::Truncated => (52, 125, 191),
        Failure::Wrong => (28, 36, 48),
        Failure::Lost => (193, 21, 116),
        Failure::Repeated => (18, 134, 92),
        Failure::MixedUp => (160, 130, 20),
        Failure::WrongRelease => (14, 145, 160),
    }
}

fn draw(
    height: u32,
    plot: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        plot(&area)?;
        area.present().map_err(failed)?;
    }
    // The page scales the plot.
    let fixed = format!("width=\"{WIDTH}\" height=\"{height}\" ");
    Ok(svg.replacen(&fixed, "", 1))
}

/// Sets the margins, which are equal in all plots: they stand one above the other.
fn framed<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart.margin(8).margin_right(16);
    chart.x_label_area_size(44).y_label_area_size(64);
    chart
}

/// Sets the lines and letters.
fn styled<'m, 'a, 'b, 'c, X: Ranged, Y: Ranged>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, SVGBackend<'c>>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, SVGBackend<'c>> {
    mesh.bold_line_style(LINE)
        .light_line_style(TRANSPARENT)
        .axis_style(DIM)
        .label_style(FONT.into_font().color(&INK))
}

/// Wraps an error of the library. The backend writes to a string and cannot fail by itself.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failed(error: impl ToString) -> PlotError {
    PlotError(error.to_string())
}

fn rgb((r, g, b): Colour) -> RGBColor {
    RGBColor(r, g, b)
}

/// Returns a range with a margin, so that no line runs along the edge.
fn log_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let range = values.fold(None, |range: Option<(f64, f64)>, value| {
        let (least, most) = range.unwrap_or((value, value));
        Some((least.min(value), most.max(value)))
    });
    let (least, most) = range.unwrap_or((1.0, 10.0));
    (least.max(0.001) * 0.8)..(most.max(0.002) * 1.25)
}

fn short(ms: f64) -> String {
    if ms >= 1.0 || ms == 0.0 {
        format!("{ms:.0}")
    } else {
        format!("{ms}")
    }
}

/// Writes the share that has this number of nines: 2 is 99 %.
fn share(nines: f64) -> String {
    let share = 100.0 - 100.0 * 10_f64.powf(-nines);
    let digits = (nines.ceil() as usize).saturating_sub(2);
    format!("{share:.digits$} %")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_kind_of_failure_has_a_colour_of_its_own() {
        let colours: BTreeMap<Colour, Failure> = Failure::ALL
            .into_iter()
            .map(|kind| (of_failure(kind), kind))
            .collect();
        assert_eq!(colours.len(), Failure::ALL.len());
    }

    #[test]
    fn a_share_is_written_with_the_digits_that_it_has() {
        let shares = [0.0, 1.0, 2.0, 3.0, 4.0].map(share);
        assert_eq!(shares, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
