//! The cases: their loads, paths and rounds.

use std::time::Duration;

use super::tool::Load;
use crate::cli::bench::CaseName;

/// Time of a target in one round.
const FULL: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_secs(1);

/// Lengths of the bodies, in bytes.
pub const SMALL: usize = 60;
pub const MEDIUM: usize = 64 * 1024;
pub const LARGE: usize = 1024 * 1024;

/// All cases, in the order in which they are measured: half-load needs the result of small.
pub const ALL: [CaseName; 6] = [
    CaseName::Small,
    CaseName::Medium,
    CaseName::Large,
    CaseName::NewConnection,
    CaseName::Idle,
    CaseName::HalfLoad,
];

/// Returns the path of a case and its load; `half` is the rate of half-load.
pub fn load(name: CaseName, half: f64) -> (&'static str, Load) {
    match name {
        CaseName::Small => ("/small", Load::Kept { connections: 64 }),
        CaseName::Medium => ("/medium", Load::Kept { connections: 16 }),
        CaseName::Large => ("/large", Load::Kept { connections: 16 }),
        CaseName::NewConnection => ("/small", Load::New { connections: 64 }),
        CaseName::Idle => (
            "/small",
            Load::Paced {
                connections: 1000,
                per_second: 1000.0,
            },
        ),
        CaseName::HalfLoad => (
            "/small",
            Load::Paced {
                connections: 64,
                per_second: half,
            },
        ),
    }
}

/// Returns the number of rounds, in each of which every target has its turn. On processors that
/// mostly wait, which threads share one is chance and lasts for a round, so that there are more.
pub fn rounds(name: CaseName) -> usize {
    if is_paced(name) { 8 } else { 5 }
}

/// Tells whether requests come at a rate, so that latency is compared and not processor time.
pub fn is_paced(name: CaseName) -> bool {
    match name {
        CaseName::Small | CaseName::Medium | CaseName::Large | CaseName::NewConnection => false,
        CaseName::Idle | CaseName::HalfLoad => true,
    }
}

/// Returns the time of a target in one round.
pub fn time(quick: bool) -> Duration {
    if quick { QUICK } else { FULL }
}

/// Returns the order of the targets in a round: none always follows the same one.
pub fn order(targets: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |at| (at + round) % targets)
}

#[cfg(test)]
mod tests {
    use super::*;

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
