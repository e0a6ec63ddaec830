//! The two bounds on time. Pure.

use serde::Serialize;

use super::part::Part;
use crate::cli::DeployBy;
use crate::histogram::Histogram;
use crate::units::{median, rounded};

/// Limits of a swap against a control run, as on two processors a swap also costs the start of a
/// process.
const TIMES_CONTROL: f64 = 1.2;
pub const OVER_CONTROL_MS: f64 = 5.0;

/// Limit of the time from detected to promoted, over the start-up of the app alone.
const OVER_START_MS: f64 = 150.0;

/// Time for which an artifact without a digest has to stay unchanged (handoff's `--settle`).
const SETTLE_MS: f64 = 2000.0;

/// Both bounds.
#[derive(Clone, Debug, Serialize)]
pub struct Bounds {
    /// The 99.9th percentile of quick requests during swaps.
    pub p999_in_swaps: Bound,
    /// The median time from detected to promoted.
    pub promoted_after: Bound,
    /// The bounds decide: this is a full record.
    pub decide: bool,
}

/// A figure and its limit, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    pub found_ms: Option<f64>,
    /// Figure that the limit is made of: that of control runs, or the start-up of the app.
    pub compared_ms: Option<f64>,
    pub limit_ms: Option<f64>,
    /// False also when a figure is missing.
    pub holds: bool,
}

impl Bounds {
    pub fn of(parts: &[Part], in_swaps: &Histogram, in_controls: &Histogram, decide: bool) -> Self {
        let swaps = parts.iter().flat_map(|part| &part.swaps);
        let promoted = swaps.filter_map(|swap| {
            let promoted = swap.phases.promoted_ms?;
            Some(promoted.saturating_sub(swap.phases.detected_ms?) as f64)
        });
        let settles = |part: &Part| part.spec.deploy_by != Some(DeployBy::Pointer);
        let settle = if parts.iter().any(settles) {
            SETTLE_MS
        } else {
            0.0
        };
        let started = parts
            .iter()
            .flat_map(|part| part.startup_ms.iter().copied());
        Self {
            p999_in_swaps: Bound::new(in_swaps.at(0.999), in_controls.at(0.999), |control| {
                (control * TIMES_CONTROL).max(control + OVER_CONTROL_MS)
            }),
            promoted_after: Bound::new(median(promoted), median(started), |start| {
                start + OVER_START_MS + settle
            }),
            decide,
        }
    }

    /// Describes the bounds that do not hold.
    pub fn problems(&self) -> Vec<String> {
        let ms =
            |ms: Option<f64>| ms.map_or_else(|| "not known".to_owned(), |ms| format!("{ms:.1} ms"));
        let figures = [
            ("p99.9 during swaps is", &self.p999_in_swaps),
            (
                "the median from detected to promoted is",
                &self.promoted_after,
            ),
        ];
        let broken = figures.into_iter().filter(|(_, bound)| !bound.holds);
        broken
            .map(|(name, bound)| {
                let (found, limit) = (ms(bound.found_ms), ms(bound.limit_ms));
                format!("{name} {found}, more than {limit}")
            })
            .collect()
    }
}

impl Bound {
    fn new(found: Option<f64>, compared: Option<f64>, limit: impl Fn(f64) -> f64) -> Self {
        let limit = compared.map(limit);
        let both = found.zip(limit);
        Self {
            found_ms: found.map(rounded),
            compared_ms: compared.map(rounded),
            limit_ms: limit.map(rounded),
            holds: both.is_some_and(|(found, limit)| found <= limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::part;
    use super::*;

    fn all(ms: u64) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_millis(ms));
        histogram
    }

    #[test]
    fn a_swap_may_cost_a_fifth_or_five_milliseconds_more_than_a_control_run() {
        for (swap, control, holds) in [
            (15, 10, true),
            (16, 10, false),
            (119, 100, true),
            (122, 100, false),
        ] {
            let bounds = Bounds::of(&[], &all(swap), &all(control), true);
            assert_eq!(bounds.p999_in_swaps.holds, holds, "{swap} {control}");
        }
    }

    #[test]
    fn the_time_to_settle_and_the_apps_own_start_are_apart() {
        let holds = |deploy_by, detected_to_promoted: u64| {
            let mut part = part(1000, 1);
            part.spec.deploy_by = Some(deploy_by);
            part.swaps[0].phases.promoted_ms = Some(2 + detected_to_promoted);
            Bounds::of(&[part], &all(1), &all(1), true)
                .promoted_after
                .holds
        };
        assert!(holds(DeployBy::Pointer, 170) && !holds(DeployBy::Pointer, 171));
        assert!(holds(DeployBy::Watch, 2170) && !holds(DeployBy::Watch, 2171));
    }

    #[test]
    fn a_missing_figure_holds_nothing() {
        let bounds = Bounds::of(&[], &all(1), &Histogram::default(), true);
        assert!(!bounds.p999_in_swaps.holds && !bounds.promoted_after.holds);
        assert_eq!(bounds.problems().len(), 2);
    }
}
