//! Everything at once, for a while: deploys good and bad, kills, commands, a full disk, a folder that
//! is gone, no descriptors, ports that others take, a neighbour on the same cache; under load, drawn
//! from a seed.
//!
//! ```text
//! seed ─▶ schedule ─▶ scene (does it) ─▶ log: what was promoted ─┐
//!                       │ handoff, apps ─▶ journal ──────────────┼─▶ ledger ─▶ account: findings
//!        clients ───────┘        └───────▶ what clients saw ─────┘
//! ```
//! Steps come in rounds. After each of them the load ends, everything comes to rest, and handoff
//! holds no more than in the beginning. The schedule and the ledger are pure; a seed gives the same
//! steps again, though not the same moments.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sample_app::journal;

pub mod artifacts;
mod ask;
mod clients;
mod commands;
pub mod ledger;
mod neighbour;
mod scene;
pub mod schedule;
mod strain;
mod vitals;

use clients::{CLIENTS, Clients, Moment, Toll};
use ledger::{Account, Kill, Ledger};
use scene::Scene;
use schedule::Schedule;
use vitals::Vitals;

use crate::wait;

/// Load before the first step, so that handoff holds what it usually does.
const WARM_UP: Duration = Duration::from_secs(2);
/// Deploys without anything else after each round.
const QUIET_DEPLOYS: usize = 5;

/// The result of a run.
#[derive(Debug)]
pub struct Summary {
    seed: u64,
    took: Duration,
    rounds: usize,
    steps: BTreeMap<String, usize>,
    skipped: Vec<&'static str>,
    requests: usize,
    refused: usize,
    kills: usize,
    failed_starts: usize,
    base: Vitals,
    last: Vitals,
    account: Account,
    neighbour: Account,
    outcomes: BTreeMap<String, usize>,
    killed: Vec<Kill>,
    /// Folder of the log and the journal, if something was found.
    kept: Option<PathBuf>,
    /// Promoted, though nothing like it was deployed, or nothing that can serve.
    strangers: Vec<String>,
}

/// Runs whole rounds of the steps of `seed` until so much time is over, at least one.
pub fn run(seed: u64, time: Duration) -> Summary {
    let moment = Moment::default();
    let started = SystemTime::now();
    let mut schedule = Schedule::new(seed);
    let mut scene = Scene::set(moment.clone(), seed.is_multiple_of(2));
    let mut toll = Toll::default();
    let address = scene.address();
    let load = |round| Clients::start(CLIENTS, address, &moment, round, seed);

    let warm_up = load(0);
    wait::sleep_for(WARM_UP, "load before the first step");
    toll.add(warm_up.end());
    scene.recover();
    let base = scene.await_rest(None);
    let mut last = base;
    let mut steps = BTreeMap::new();
    let mut rounds = 0;
    while rounds == 0 || moment.now() < time {
        rounds += 1;
        let clients = load(rounds);
        let others = scene.neighbour.load(rounds, seed);
        for step in schedule.round() {
            eprintln!("{:7.1} s: {step}", moment.now().as_secs_f64());
            scene.act(&step);
            *steps.entry(step.action.kind()).or_default() += 1;
        }
        toll.add(clients.end());
        scene.neighbour.add(others.end());
        // What each handoff leaves behind adds up; and no connection to an app is kept.
        (0..QUIET_DEPLOYS).for_each(|_| scene.recover());
        last = scene.await_rest(Some(base));
    }
    let neighbour = scene.neighbour.end();
    let (log, journal_file) = scene.end();

    let mut ledger = Ledger {
        journal: journal::read(&journal_file).expect("a journal"),
        kills: std::mem::take(&mut scene.kills),
        connections: CLIENTS,
        ..Ledger::default()
    };
    let mut strangers = Vec::new();
    for (at, release) in promotions(&log, started) {
        match scene.version_of(&release) {
            Some(version) if !scene.bad.iter().any(|bad| bad == version) => {
                ledger.promoted.entry(version.to_owned()).or_insert(at);
            }
            _ => strangers.push(release),
        }
    }
    ledger.seen = toll.seen;
    let account = ledger.settle();
    let mut summary = Summary {
        seed,
        took: moment.now(),
        rounds,
        steps,
        skipped: scene.skipped.clone(),
        requests: ledger.seen.len(),
        refused: toll.refused,
        kills: ledger.kills.len(),
        failed_starts: scene.failed_starts,
        base,
        last,
        killed: ledger.kills,
        account,
        neighbour,
        outcomes: scene.outcomes.clone(),
        kept: None,
        strangers,
    };
    summary.kept = (!summary.is_good()).then(|| keep(seed, &log, &journal_file));
    summary
}

/// Keeps the evidence of a finding: it lasts longer than the deployment.
fn keep(seed: u64, log: &str, journal: &Path) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("handoff-chaos-{seed}"));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("log"), log).expect("a file");
    fs::copy(journal, folder.join("journal")).expect("a file");
    folder
}

/// Returns the promotions: moment and release, as the log says.
fn promotions(log: &str, started: SystemTime) -> Vec<(Duration, String)> {
    let promoted = log.lines().filter(|line| line.contains(" promoted "));
    let told = promoted.filter_map(|line| {
        let (time, rest) = line.trim_start().split_once(' ')?;
        let at = humantime::parse_rfc3339(time).ok()?;
        let (_, release) = rest.split_once(" release=\"")?;
        let release = release.split('"').next()?.to_owned();
        Some((at.duration_since(started).unwrap_or_default(), release))
    });
    told.collect()
}

// === impl Summary ===

impl Summary {
    /// Returns whether everything was as it has to be.
    pub fn is_good(&self) -> bool {
        let accounts = [&self.account, &self.neighbour];
        accounts.iter().all(|account| account.findings.is_empty()) && self.strangers.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_secs();
        writeln!(f, "seed {}: {} rounds in {took} s", self.seed, self.rounds)?;
        writeln!(f, "steps: {:?}", self.steps)?;
        if !self.skipped.is_empty() {
            writeln!(f, "skipped: {:?}", self.skipped)?;
        }
        let Self {
            requests,
            refused,
            kills,
            failed_starts,
            ..
        } = self;
        writeln!(
            f,
            "requests: {requests}; refused and tried again: {refused}"
        )?;
        writeln!(f, "kills: {kills}; starts that failed: {failed_starts}")?;
        writeln!(
            f,
            "handoff at rest: {} at first, {} at last",
            self.base, self.last
        )?;
        writeln!(f, "outcomes: {:?}", self.outcomes)?;
        writeln!(f, "promoted, but not good: {:?}", self.strangers)?;
        writeln!(f, "neighbour: {}", self.neighbour)?;
        write!(f, "{}", self.account)?;
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        for kill in &self.killed {
            write!(f, "\n  {kill:?}")?;
        }
        write!(f, "\nlog and journal: {}", kept.display())
    }
}
