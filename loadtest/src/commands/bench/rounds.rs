//! The rounds of the cases: each target once a round.

use rustix::param::clock_ticks_per_second;
use tokio::time::{Duration, sleep};

use super::case;
use super::figures::{Case, Row, Sample, median};
use super::target::{Baseline, Target};
use super::tool::Load;
use crate::cli::bench::{CaseName, TargetName, name_of};
use crate::host::usage::{Cpu, rss_kib};

/// Share of the slowest target's rate that half-load offers.
const HALF: f64 = 0.5;

/// Interval at which memory is read.
const LOOK: Duration = Duration::from_millis(100);

/// The rounds of a target so far.
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
    baseline: &Baseline,
) -> Vec<Case> {
    let mut results: Vec<Case> = Vec::new();
    for name in case::ALL.into_iter().filter(|name| cases.contains(name)) {
        let rounds = case::rounds(name);
        let half = if name == CaseName::HalfLoad {
            let small = results.iter().find(|case| case.name == CaseName::Small);
            let slowest = match small {
                Some(case) => slowest(case),
                None => {
                    eprintln!("half-load: first, the rate of the slowest target");
                    slowest(&measure(CaseName::Small, targets, 0.0, 1, quick, baseline).await)
                }
            };
            slowest * HALF
        } else {
            0.0
        };
        results.push(measure(name, targets, half, rounds, quick, baseline).await);
    }
    results
}

async fn measure(
    name: CaseName,
    targets: &[Target],
    half: f64,
    rounds: usize,
    quick: bool,
    baseline: &Baseline,
) -> Case {
    let (path, load) = case::load(name, half);
    let time = case::time(quick);
    let mut played: Vec<Played> = targets.iter().map(|_| Played::default()).collect();
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", name_of(name), round + 1);
        for at in case::order(targets.len(), round) {
            // A target that lost a request once is out of the case.
            if played[at].failed.is_some() {
                continue;
            }
            let target = &targets[at];
            match sample(target, load, path, time, baseline).await {
                Ok(sample) => played[at].samples.push(sample),
                Err(error) => {
                    let (case, target) = (name_of(name), name_of(target.name));
                    eprintln!("{case}: {target} failed: {error}");
                    played[at].failed = Some(error);
                }
            }
        }
    }
    let direct = played.first().map(|direct| direct.samples.clone());
    let direct = direct.unwrap_or_default();
    let rows = targets.iter().zip(played).map(|(target, played)| {
        let is_paced = case::is_paced(name);
        let Played { samples, failed } = played;
        Row::new(target.name, is_paced, samples, failed, &direct)
    });
    Case {
        name,
        offered_rps: load.per_second(),
        connections: load.connections(),
        seconds: time.as_secs_f64(),
        refused: None,
        targets: rows.collect(),
    }
    .judged()
}

/// Offers the load to one target, and measures what it takes.
async fn sample(
    target: &Target,
    load: Load,
    path: &str,
    time: Duration,
    baseline: &Baseline,
) -> Result<Sample, String> {
    let processes = target.processes(baseline);
    let before = Cpu::of(&processes);
    let began = std::time::Instant::now();
    let mut rss = rss_kib(&processes);
    let offered = load.offer(target.server, path, time, &baseline.folder);
    let look = async {
        loop {
            sleep(LOOK).await;
            rss = rss.max(rss_kib(&processes));
        }
    };
    let measured = tokio::select! {
        measured = offered => measured?,
        () = look => return Err("the load ended by itself".to_owned()),
    };
    let seconds = began.elapsed().as_secs_f64();
    let spent = Cpu::of(&processes).since(&before, clock_ticks_per_second());
    let requests = measured.requests as f64;
    if measured.requests == 0 {
        return Err("not one answer came".to_owned());
    }
    Ok(Sample {
        rps: requests / seconds,
        cpu_us: spent.total_us() / requests,
        cpu_user_us: spent.user_us / requests,
        cpu_system_us: spent.system_us / requests,
        total_p50_ms: measured.p50_ms,
        total_p99_ms: measured.p99_ms,
        rss_kib: rss,
    })
}

/// Returns the rate of the slowest target, also of those that are not quoted.
fn slowest(case: &Case) -> f64 {
    case.targets
        .iter()
        .filter(|row| row.failed.is_none() && row.name != TargetName::Direct)
        .filter_map(|row| median(row.rounds.iter().map(|sample| sample.rps)))
        .reduce(f64::min)
        // With the direct way alone any rate will do.
        .unwrap_or(2000.0)
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample;
    use super::*;

    #[test]
    fn the_slowest_target_sets_the_pace_also_when_it_is_not_quoted() {
        let row = |name, rps, cpu: &[f64], failed: Option<&str>| {
            let samples = cpu.iter().map(|cpu| Sample {
                rps,
                ..sample(*cpu)
            });
            let failed = failed.map(str::to_owned);
            Row::new(name, false, samples.collect(), failed, &[sample(0.0); 5])
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
