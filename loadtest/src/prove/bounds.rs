//! The two bounds on time. Pure.

use serde::Serialize;

use super::part::Part;
use crate::metrics::Percentiles;

/// On two processors a swap also measures the start of a process, so it is compared with a sham.
const TIMES_SHAM: f64 = 1.2;
pub const OVER_SHAM_MS: f64 = 5.0;

/// From detected to promoted, over the app's own start.
const OVER_START_MS: f64 = 150.0;

/// Without a digest an artifact is complete when it has not changed for so long (handoff's
/// --settle): that is how the deployer chose to be understood, and no work.
const SETTLE_MS: f64 = 2000.0;

/// Both bounds, and whether they hold. Times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Bounds {
    /// The 99.9th percentile of quick requests in swap windows.
    pub p999_in_swaps: Bound,
    /// The median time from detected to promoted.
    pub promoted_after: Bound,
    /// They decide: this is the full record.
    pub decide: bool,
}

/// A figure that must not exceed another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bound {
    pub found_ms: Option<f64>,
    /// What the limit is made of: the sham's figure, the app's own start.
    pub compared_ms: Option<f64>,
    pub limit_ms: Option<f64>,
    /// False also when a figure is missing.
    pub holds: bool,
}

impl Bounds {
    pub fn of(
        parts: &[Part],
        in_swaps: &Percentiles,
        in_shams: &Percentiles,
        decide: bool,
    ) -> Self {
        let promoted = parts
            .iter()
            .flat_map(|part| &part.swaps)
            .filter_map(|swap| {
                let promoted = swap.phases.promoted_ms?;
                Some(promoted.saturating_sub(swap.phases.detected_ms?) as f64)
            });
        let settles = parts.iter().any(|part| part.asked.deploy_by != "pointer");
        let started = parts
            .iter()
            .flat_map(|part| part.startup_ms.iter().copied());
        Self {
            p999_in_swaps: Bound::new(in_swaps.at(0.999), in_shams.at(0.999), |sham| {
                (sham * TIMES_SHAM).max(sham + OVER_SHAM_MS)
            }),
            promoted_after: Bound::new(median(promoted), median(started), |start| {
                start + OVER_START_MS + if settles { SETTLE_MS } else { 0.0 }
            }),
            decide,
        }
    }
}

impl Bound {
    fn new(found: Option<f64>, compared: Option<f64>, limit: impl Fn(f64) -> f64) -> Self {
        let limit = compared.map(limit);
        let rounded = |ms: Option<f64>| ms.map(|ms| (ms * 1000.0).round() / 1000.0);
        Self {
            found_ms: rounded(found),
            compared_ms: rounded(compared),
            limit_ms: rounded(limit),
            holds: found
                .zip(limit)
                .is_some_and(|(found, limit)| found <= limit),
        }
    }
}

/// The lower one of two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn all(ms: u64) -> Percentiles {
        let mut percentiles = Percentiles::new();
        percentiles.record(Duration::from_millis(ms));
        percentiles
    }

    #[test]
    fn a_swap_may_cost_a_fifth_or_five_milliseconds_more_than_a_sham() {
        for (swap, sham, holds) in [
            (15, 10, true),
            (16, 10, false),
            (119, 100, true),
            (122, 100, false),
        ] {
            let bounds = Bounds::of(&[], &all(swap), &all(sham), true);
            assert_eq!(bounds.p999_in_swaps.holds, holds, "{swap} {sham}");
        }
    }

    #[test]
    fn the_time_to_settle_is_apart() {
        let holds = |deploy_by: &str, detected_to_promoted: u64| {
            let mut part = crate::prove::record::tests::part(1000, 1);
            part.asked.deploy_by = deploy_by.to_owned();
            part.swaps[0].phases.promoted_ms = Some(2 + detected_to_promoted);
            let bounds = Bounds::of(&[part], &all(1), &all(1), true);
            bounds.promoted_after.holds
        };
        assert!(holds("pointer", 170) && !holds("pointer", 171));
        assert!(holds("watch", 2170) && !holds("watch", 2171));
    }

    #[test]
    fn a_missing_figure_holds_nothing() {
        let bounds = Bounds::of(&[], &all(1), &Percentiles::new(), true);
        assert!(!bounds.p999_in_swaps.holds && !bounds.promoted_after.holds);
    }

    #[test]
    fn the_app_s_own_start_is_not_handoffs() {
        let bound = |found| Bound::new(Some(found), Some(40.0), |start| start + OVER_START_MS);
        assert!(bound(190.0).holds && !bound(191.0).holds);
        assert_eq!(median([3.0, 1.0, 2.0, 9.0].into_iter()), Some(2.0));
    }
}
