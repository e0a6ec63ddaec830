//! What clients do in each case, and how long.

use std::net::SocketAddr;
use std::time::Duration;

use super::backend::{LARGE, SMALL};
use super::load::{Load, Pace};
use super::measure::Timing;
use super::options::CaseName;

/// Of a whole run with all cases, whatever the number of targets.
const FULL: Duration = Duration::from_secs(330);
const QUICK: Duration = Duration::from_secs(65);

/// Of its part of a round, a target is warmed up for so much.
const WARM_UP: f64 = 0.15;

/// In the order in which they are measured: half-load needs what small finds.
pub const ALL: [CaseName; 5] = [
    CaseName::Small,
    CaseName::Large,
    CaseName::NewConnection,
    CaseName::Idle,
    CaseName::HalfLoad,
];

/// What a case is.
#[derive(Debug, Clone, Copy)]
struct Shape {
    connections: usize,
    large: bool,
    fresh: bool,
    /// Interleaved: each target once a round.
    rounds: usize,
    /// Of the time.
    weight: f64,
}

fn shape(name: CaseName) -> Shape {
    let small = Shape {
        connections: 64,
        large: false,
        fresh: false,
        rounds: 7,
        weight: 1.2,
    };
    match name {
        CaseName::Small => small,
        CaseName::Large => Shape {
            connections: 16,
            large: true,
            weight: 1.0,
            ..small
        },
        CaseName::NewConnection => Shape {
            fresh: true,
            weight: 1.0,
            ..small
        },
        // Where processors are idle, which threads share one is chance and lasts for a round.
        CaseName::Idle => Shape {
            connections: 1000,
            rounds: 12,
            ..small
        },
        // Percentiles need many answers, and there are few a second.
        CaseName::HalfLoad => Shape {
            rounds: 16,
            weight: 2.4,
            ..small
        },
    }
}

/// The load of a case on one target. `half` is the rate of half-load.
pub fn load(name: CaseName, server: SocketAddr, half: f64) -> Load {
    let shape = shape(name);
    Load {
        server,
        path: if shape.large { "/large" } else { "/small" },
        body: if shape.large { LARGE } else { SMALL } as u64,
        connections: shape.connections,
        fresh: shape.fresh,
        pace: match name {
            CaseName::Small | CaseName::Large | CaseName::NewConnection => Pace::Closed,
            CaseName::Idle => Pace::Open { per_second: 1000.0 },
            CaseName::HalfLoad => Pace::Open { per_second: half },
        },
    }
}

/// How many rounds a case has.
pub fn rounds(name: CaseName) -> usize {
    shape(name).rounds
}

/// Whether requests come at a rate, so that it is latency that is looked at.
pub fn is_paced(name: CaseName) -> bool {
    match name {
        CaseName::Small | CaseName::Large | CaseName::NewConnection => false,
        CaseName::Idle | CaseName::HalfLoad => true,
    }
}

/// How long one target takes in one round.
pub fn timing(name: CaseName, targets: usize, quick: bool) -> Timing {
    let whole = if quick { QUICK } else { FULL };
    let weights: f64 = ALL.iter().map(|name| shape(*name).weight).sum();
    let part = whole.mul_f64(shape(name).weight / weights / (targets.max(1) * rounds(name)) as f64);
    Timing {
        warm_up: part.mul_f64(WARM_UP),
        measured: part.mul_f64(1.0 - WARM_UP),
    }
}

/// The targets' order in a round: none always follows the same one at the same time.
pub fn order(targets: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |at| (at + round) % targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_its_time_and_no_more() {
        for (quick, expected) in [(false, FULL), (true, QUICK)] {
            for targets in [1, 6, 8] {
                let whole: Duration = ALL
                    .iter()
                    .map(|name| {
                        let timing = timing(*name, targets, quick);
                        let times = u32::try_from(targets * rounds(*name)).unwrap();
                        (timing.warm_up + timing.measured) * times
                    })
                    .sum::<Duration>();
                let off = whole.abs_diff(expected);
                assert!(
                    off < Duration::from_millis(1),
                    "{targets} {quick}: {whole:?}"
                );
            }
        }
    }

    #[test]
    fn each_target_has_its_turn_in_each_round() {
        for round in 0..7 {
            let mut order: Vec<_> = order(6, round).collect();
            assert_eq!(order[0], round % 6);
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        }
    }
}
