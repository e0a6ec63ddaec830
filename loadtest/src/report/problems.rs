//! The reasons for which a run did not pass.

use std::collections::BTreeMap;

use super::bounds::{Bounds, OVER_CONTROL_MS};
use super::part::Part;
use crate::units::thousands;

/// Returns the reasons for which the run did not pass.
pub(super) fn problems(
    parts: &[Part],
    failed: &BTreeMap<&'static str, u64>,
    bounds: Option<&Bounds>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let failures: u64 = failed.values().sum();
    let sent: u64 = parts.iter().map(|part| part.sent).sum();
    let asked: u64 = parts.iter().map(|part| part.spec.requests).sum();
    if failures > 0 {
        let (failures, sent) = (thousands(failures), thousands(sent));
        problems.push(format!("{failures} of {sent} requests failed"));
    }
    if sent == 0 {
        problems.push("no request was sent".to_owned());
    } else if sent < asked {
        let (sent, asked) = (thousands(sent), thousands(asked));
        problems.push(format!("{sent} of {asked} requests were sent"));
    }
    let swaps: usize = parts.iter().map(|part| part.swaps.len()).sum();
    let asked: u32 = parts.iter().map(|part| part.spec.swaps).sum();
    if swaps < asked as usize {
        problems.push(format!("{swaps} of {asked} swaps were made"));
    }
    for part in parts {
        let prefix = if parts.len() > 1 {
            format!("part {}: ", part.spec.number)
        } else {
            String::new()
        };
        let own = part.problems.iter().cloned().chain(problems_of_swaps(part));
        problems.extend(own.map(|problem| format!("{prefix}{problem}")));
    }
    if let Some(bounds) = bounds.filter(|bounds| bounds.decide) {
        // The lateness of the generator is part of what is compared, and raises the limit.
        problems.extend(describe_lateness(parts, OVER_CONTROL_MS));
        problems.extend(bounds.problems());
    }
    problems
}

fn problems_of_swaps(part: &Part) -> Vec<String> {
    let mut problems = Vec::new();
    // After an early end, an unfinished last swap follows from the problem before it.
    let is_complete = part.swaps.len() >= part.spec.swaps as usize;
    for swap in &part.swaps {
        let release = &swap.release;
        if let Some(reason) = &swap.refused {
            problems.push(format!("{release} was refused: {reason}"));
        } else if swap.seen_ms.is_none() && part.spec.names_releases {
            problems.push(format!("clients never saw {release}"));
        } else if !swap.is_over() && (is_complete || part.spec.has_journal) {
            problems.push(format!("the release before {release} was not stopped"));
        }
    }
    let unfinished = part.control_runs.iter().filter(|swap| !swap.is_over());
    problems.extend(
        unfinished.map(|swap| format!("the control release {} was not refused", swap.release)),
    );
    problems
}

/// Describes a generator that was later than `limit_ms` in any part, each of which has to count.
pub(super) fn describe_lateness(parts: &[Part], limit_ms: f64) -> Option<String> {
    let late = |part: &Part| Some((part.lateness.at(0.99)?, part.spec.number));
    let parts_late = parts.iter().filter_map(late);
    let (p99, number) = parts_late.max_by(|a, b| a.0.total_cmp(&b.0))?;
    let part = if parts.len() > 1 {
        format!("in part {number} ")
    } else {
        String::new()
    };
    (p99 > limit_ms).then(|| {
        format!(
            "{part}the generator itself was late by {p99:.0} ms at the 99th percentile (more than \
             {limit_ms:.0}): this machine is too busy for this rate"
        )
    })
}
