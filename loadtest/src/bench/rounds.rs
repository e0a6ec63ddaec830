//! Plays the cases: each target once a round, the rounds of a case one after the other.

use super::case;
use super::figures::{Case, Row, Sample, median};
use super::measure::{Timing, sample};
use super::options::{CaseName, TargetName};
use super::target::{Ground, Target};

/// Half-load is at this part of the slowest target's rate.
const HALF: f64 = 0.5;

/// A target's rounds so far.
#[derive(Debug, Default)]
struct Played {
    samples: Vec<Sample>,
    failed: Option<String>,
}

/// Measures these cases. `targets` begins with the direct way.
pub async fn play(
    cases: &[CaseName],
    targets: &[Target],
    quick: bool,
    ground: &Ground,
) -> Vec<Case> {
    let mut results: Vec<Case> = Vec::new();
    for name in case::ALL.into_iter().filter(|name| cases.contains(name)) {
        let half = match name {
            CaseName::HalfLoad => half(&results, targets, quick, ground).await,
            CaseName::Small | CaseName::Large | CaseName::NewConnection | CaseName::Idle => 0.0,
        };
        results.push(one(name, targets, half, case::rounds(name), quick, ground).await);
    }
    results
}

async fn one(
    name: CaseName,
    targets: &[Target],
    half: f64,
    rounds: usize,
    quick: bool,
    ground: &Ground,
) -> Case {
    let timing = case::timing(name, targets.len(), quick);
    let mut played: Vec<Played> = targets.iter().map(|_| Played::default()).collect();
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", name.text(), round + 1);
        for at in case::order(targets.len(), round) {
            played[at]
                .round(name, &targets[at], half, timing, ground)
                .await;
        }
    }
    let direct = played
        .first()
        .map(|direct| direct.samples.clone())
        .unwrap_or_default();
    let rows = targets.iter().zip(played).map(|(target, played)| {
        let is_paced = case::is_paced(name);
        Row::new(
            target.name,
            is_paced,
            played.samples,
            played.failed,
            &direct,
        )
    });
    let load = case::load(name, targets[0].server, half);
    Case {
        name,
        offered_rps: match load.pace {
            super::load::Pace::Closed => None,
            super::load::Pace::Open { per_second } => Some(per_second),
        },
        connections: load.connections,
        seconds: timing.measured.as_secs_f64(),
        refused: None,
        targets: rows.collect(),
    }
    .judged()
}

/// The rate of half-load: what `small` found, else one round of it.
async fn half(results: &[Case], targets: &[Target], quick: bool, ground: &Ground) -> f64 {
    let found = results.iter().find(|case| case.name == CaseName::Small);
    let slowest = match found {
        Some(case) => slowest(case),
        None => {
            eprintln!("half-load: first, what the slowest target can do");
            slowest(&one(CaseName::Small, targets, 0.0, 1, quick, ground).await)
        }
    };
    slowest * HALF
}

/// Also of what is refused: as a rate to offer it is good enough.
fn slowest(case: &Case) -> f64 {
    case.targets
        .iter()
        .filter(|row| row.failed.is_none() && row.name != TargetName::Direct)
        .filter_map(|row| median(row.rounds.iter().map(|sample| sample.rps)))
        .reduce(f64::min)
        // Nothing but the direct way: any rate will do.
        .unwrap_or(2000.0)
}

// === impl Played ===

impl Played {
    async fn round(
        &mut self,
        name: CaseName,
        target: &Target,
        half: f64,
        timing: Timing,
        ground: &Ground,
    ) {
        // A target that lost a request once is out of the case.
        if self.failed.is_some() {
            return;
        }
        let load = case::load(name, target.server, half);
        match sample(target, &load, timing, ground).await {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                eprintln!("{}: {} failed: {error}", name.text(), target.name.text());
                self.failed = Some(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_target_sets_the_pace_also_when_it_is_not_quoted() {
        let sample = |rps, cpu_us| Sample {
            rps,
            cpu_us,
            cpu_user_us: 1.0,
            cpu_system_us: 1.0,
            total_p50_ms: 1.0,
            total_p99_ms: 1.0,
            rss_kib: 1,
        };
        let row = |name, rps, cpu: &[f64], failed: Option<&str>| {
            let samples = cpu.iter().map(|cpu| sample(rps, *cpu)).collect();
            Row::new(
                name,
                false,
                samples,
                failed.map(str::to_owned),
                &[sample(9e9, 0.0); 5],
            )
        };
        let shaky = [1.0, 2.0, 3.0, 4.0, 5.0];
        let case = Case {
            name: CaseName::Small,
            offered_rps: None,
            connections: 64,
            seconds: 1.0,
            refused: None,
            targets: vec![
                row(TargetName::Direct, 10.0, &[0.0; 5], None),
                row(TargetName::Nginx, 900.0, &[9.0; 5], None),
                row(TargetName::Caddy, 300.0, &shaky, None),
                row(TargetName::Pingora, 100.0, &[9.0; 5], Some("lost one")),
            ],
        }
        .judged();
        assert!(case.targets[2].refused.is_some());
        assert_eq!(slowest(&case), 300.0);
    }
}
