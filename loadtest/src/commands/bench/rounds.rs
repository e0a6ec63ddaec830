//! The cases and their rounds, in each of which every target has its turn.

use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use tokio::time::sleep;

use super::figures::{Case, Row, Sample};
use super::target::{Baseline, Target, Way};
use super::tool::Load;
use crate::cli::bench::{CaseName, TargetName, name_of};
use crate::host::usage::{Cpu, rss_kib};
use crate::units::median;

/// Time of a target in one round.
const FULL: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_secs(1);

/// Number of rounds, and of those at a given rate, where a single one says little.
const ROUNDS: usize = 5;
const PACED_ROUNDS: usize = 8;

/// Share of the slowest target's rate that half-load offers, and the rate without any target.
const HALF: f64 = 0.5;
const ANY_RATE: f64 = 2000.0;

/// Interval at which memory is read.
const LOOK: Duration = Duration::from_millis(100);

/// All cases, in the order in which they are measured: half-load needs the result of small.
pub const ALL: [CaseName; 8] = [
    CaseName::Small,
    CaseName::Medium,
    CaseName::Large,
    CaseName::NewConnection,
    CaseName::Idle,
    CaseName::HalfLoad,
    CaseName::H2c,
    CaseName::H2cApp,
];

/// Load on streams of HTTP/2.
const STREAMS: Load = Load::Streams {
    connections: 20,
    streams: 10,
};

/// Returns the way of a case to the app, its path and its load; `half` is the rate of half-load.
fn load(name: CaseName, half: f64) -> (Way, &'static str, Load) {
    let paced = |connections, per_second| Load::Paced {
        connections,
        per_second,
    };
    let (path, load) = match name {
        CaseName::H2c => return (Way::H2c, "/small", STREAMS),
        CaseName::H2cApp => return (Way::H2cApp, "/small", STREAMS),
        CaseName::Small => ("/small", Load::Kept { connections: 64 }),
        CaseName::Medium => ("/medium", Load::Kept { connections: 16 }),
        CaseName::Large => ("/large", Load::Kept { connections: 16 }),
        CaseName::NewConnection => ("/small", Load::New { connections: 64 }),
        CaseName::Idle => ("/small", paced(1000, 1000.0)),
        CaseName::HalfLoad => ("/small", paced(64, half)),
    };
    (Way::Http1, path, load)
}

/// Returns the ways of these cases to the app.
pub fn ways(cases: &[CaseName]) -> Vec<Way> {
    cases.iter().map(|name| load(*name, 0.0).0).collect()
}

/// Measures these cases.
pub async fn play(
    cases: &[CaseName],
    targets: &[Target],
    quick: bool,
    baseline: &Baseline,
) -> Vec<Case> {
    let time = if quick { QUICK } else { FULL };
    let mut results: Vec<Case> = Vec::new();
    for name in ALL.into_iter().filter(|name| cases.contains(name)) {
        let mut half = 0.0;
        if name == CaseName::HalfLoad {
            let small = results.iter().find(|case| case.name == CaseName::Small);
            half = HALF
                * match small {
                    Some(case) => slowest(case),
                    None => {
                        let small = load(CaseName::Small, 0.0);
                        slowest(&measure(name, small, 1, targets, time, baseline).await)
                    }
                };
        }
        let load = load(name, half);
        let rounds = load.2.per_second().map_or(ROUNDS, |_| PACED_ROUNDS);
        results.push(measure(name, load, rounds, targets, time, baseline).await);
    }
    results
}

async fn measure(
    name: CaseName,
    (way, path, load): (Way, &'static str, Load),
    rounds: usize,
    targets: &[Target],
    time: Duration,
    baseline: &Baseline,
) -> Case {
    let targets = targets.iter().filter(|target| target.server(way).is_some());
    let targets: Vec<&Target> = targets.collect();
    let rows = targets
        .iter()
        .map(|target| Row::new(target.name, Vec::new(), None));
    let mut rows: Vec<Row> = rows.collect();
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", name_of(name), round + 1);
        for turn in 0..targets.len() {
            // None always follows the same one.
            let at = (turn + round) % targets.len();
            // A target that lost a request once is out of the case.
            if rows[at].failed.is_some() {
                continue;
            }
            match sample(targets[at], (way, path, load), time, baseline).await {
                Ok(sample) => rows[at].rounds.push(sample),
                Err(error) => {
                    eprintln!("{} failed: {error}", name_of(targets[at].name));
                    rows[at].failed = Some(error);
                }
            }
        }
    }
    let mut case = Case {
        name,
        offered_rps: load.per_second(),
        connections: load.connections(),
        targets: rows,
    };
    case.compare();
    case
}

/// Offers the load to one target, and measures what it takes.
async fn sample(
    target: &Target,
    (way, path, load): (Way, &str, Load),
    time: Duration,
    baseline: &Baseline,
) -> Result<Sample, String> {
    let server = target.server(way).ok_or("it does not speak HTTP/2")?;
    let processes = target.processes(way, baseline);
    let (before, began) = (Cpu::of(&processes), Instant::now());
    let mut rss = rss_kib(&processes);
    let look = async {
        loop {
            sleep(LOOK).await;
            rss = rss.max(rss_kib(&processes));
        }
    };
    let measured = tokio::select! {
        measured = load.offer(server, path, time, &baseline.folder) => measured?,
        () = look => return Err("memory is read no longer".to_owned()),
    };
    let spent_us = Cpu::of(&processes).since(&before, clock_ticks_per_second());
    let requests = measured.requests as f64;
    Ok(Sample {
        rps: requests / began.elapsed().as_secs_f64(),
        cpu_us: spent_us / requests.max(1.0),
        p50_ms: measured.p50_ms,
        p99_ms: measured.p99_ms,
        rss_kib: rss as f64,
    })
}

/// Returns the rate of the slowest target.
fn slowest(case: &Case) -> f64 {
    let rows = case.targets.iter();
    rows.filter(|row| row.failed.is_none() && row.name != TargetName::Direct)
        .filter_map(|row| median(row.rounds.iter().map(|sample| sample.rps)))
        .reduce(f64::min)
        .unwrap_or(ANY_RATE)
}
