//! The run: build, start, offer load while the scenario plays, stop, tell.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::attack::{Attack, Plan};
use crate::binaries::{self, BinariesError};
use crate::cli::{Options, StrategyName};
use crate::interrupt::interrupted;
use crate::metrics::Metrics;
use crate::process::last_lines;
use crate::progress::{self, Progress};
use crate::release::{self, Release};
use crate::report::{self, Style};
use crate::result::Outcome;
use crate::scenario::{Scenario, Swap, unix_ms};
use crate::site::Site;
use crate::strategy::{Handoff, Restart, Strategy, StrategyError};
use crate::summary::{Setup, Summary};
use crate::system::{System, WineError};
use crate::traffic::Mix;

/// For one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// So many lines of the log explain a failure.
const LOG_LINES: usize = 30;

/// Whether the run has shown what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
}

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("make a temporary folder: {0}")]
    Folder(io::Error),
    #[error("make the releases: {0}")]
    Releases(io::Error),
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    #[error(transparent)]
    Wine(#[from] WineError),
    #[error("offer load: {0}")]
    Attack(io::Error),
    #[error("finish: interrupted after {0} requests")]
    Interrupted(u64),
    #[error("write {file}: {source}")]
    Json { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
}

/// Does what the options ask for.
///
/// # Errors
/// There is no verdict, as the run could not be made.
pub fn run(options: &Options) -> Result<Verdict, DemoError> {
    let packages: &[&str] = match options.strategy {
        StrategyName::Handoff => &["sample-app", "handoff"],
        StrategyName::Restart => &["sample-app"],
    };
    let system = System::asked(options.windows)?;
    let binaries = binaries::provide(packages, &system, options.binaries.as_deref())?;
    let folder = tempfile::Builder::new()
        .prefix("handoff-loadtest-")
        .disable_cleanup(options.keep)
        .tempdir()
        .map_err(DemoError::Folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Runtime)?;
    let verdict = runtime.block_on(run_in(folder.path(), options, &system, &binaries));
    if options.keep {
        eprintln!("kept {}", folder.path().display());
    } else if let Err(error) = folder.close() {
        eprintln!("loadtest: failed to remove the temporary folder: {error}");
    }
    verdict
}

async fn run_in(
    folder: &Path,
    options: &Options,
    system: &System,
    binaries: &[PathBuf],
) -> Result<Verdict, DemoError> {
    let site = Site::create(folder.join("site"), options.deploy_by, system.clone());
    let site = site.map_err(DemoError::Folder)?;
    let count = options.swaps.saturating_add(1);
    let releases = release::make(&binaries[0], &site.workshop(), count, system)
        .map_err(DemoError::Releases)?;
    let log = folder.join("output.log");
    let verdict = match options.strategy {
        StrategyName::Handoff => {
            let command = ["-port", "{port}"].map(Into::into);
            let start = Handoff::start(&binaries[1], site, &releases[0], &command, folder, &log);
            measure(start, options, &releases).await
        }
        StrategyName::Restart => {
            measure(Restart::start(site, &releases[0], &log), options, &releases).await
        }
    };
    let log_explains = match verdict {
        // A restart fails as it must; its log has nothing to say.
        Ok(Verdict::Failed) => options.strategy == StrategyName::Handoff,
        Err(DemoError::Strategy(_)) => true,
        Ok(Verdict::Passed) | Err(_) => false,
    };
    if log_explains {
        eprintln!("\nThe last lines of the output:");
        for line in last_lines(&log, LOG_LINES) {
            eprintln!("  {line}");
        }
    }
    verdict
}

/// Starts, offers load while the scenario plays, stops, tells.
async fn measure<S: Strategy>(
    start: impl Future<Output = Result<S, StrategyError>>,
    options: &Options,
    releases: &[Release],
) -> Result<Verdict, DemoError> {
    let mut interrupt = pin!(interrupted());
    let mut strategy = tokio::select! {
        strategy = start => strategy?,
        () = &mut interrupt => return Err(DemoError::Interrupted(0)),
    };
    let mut run = Run::start(strategy.server(), options)?;
    let played = tokio::select! {
        played = run.play(&mut strategy, releases, options) => Some(played),
        () = &mut interrupt => None,
    };
    let offered = run.end().await;
    let stopped = strategy.stop().await;
    let Some(played) = played else {
        return Err(DemoError::Interrupted(run.metrics.sent()));
    };

    // What ended by itself cannot be stopped: that would be no news.
    let trouble = played.and(stopped).err();
    let trouble = trouble
        .map(|error| format!("failed to {error}"))
        .into_iter()
        .collect();
    let summary = Summary::new(
        run.setup(options),
        &run.metrics,
        run.swaps,
        offered?,
        trouble,
    );
    print!("{}", report::text(&summary, Style::of_stdout()));
    if let Some(file) = &options.json {
        write_json(&summary, file)?;
    }
    Ok(if summary.passed {
        Verdict::Passed
    } else {
        Verdict::Failed
    })
}

/// Load and what is known of it.
struct Run {
    attack: Option<Attack>,
    outcomes: UnboundedReceiver<Outcome>,
    deployed: Arc<AtomicU32>,
    metrics: Metrics,
    swaps: Vec<Swap>,
    started: Instant,
    started_ms: u64,
    offered_for: Duration,
}

impl Run {
    fn start(server: SocketAddr, options: &Options) -> Result<Self, DemoError> {
        // The first release serves already.
        let deployed = Arc::new(AtomicU32::new(1));
        let (sender, outcomes) = unbounded_channel();
        let plan = Plan {
            server,
            rate: options.rate,
            connections: options.connections,
            timeout: REQUEST_TIMEOUT,
            deployed: Arc::clone(&deployed),
            mix: Mix::new(options.rate, options.connections),
            journaled: false,
        };
        let attack = Attack::launch(plan, sender).map_err(DemoError::Attack)?;
        let started = attack.started();
        Ok(Self {
            attack: Some(attack),
            outcomes,
            deployed,
            metrics: Metrics::new(),
            swaps: Vec::new(),
            started,
            started_ms: unix_ms() - millis(started.elapsed()),
            offered_for: Duration::ZERO,
        })
    }

    /// Plays the scenario and counts meanwhile.
    async fn play(
        &mut self,
        strategy: &mut impl Strategy,
        releases: &[Release],
        options: &Options,
    ) -> Result<(), StrategyError> {
        let (see, seen) = watch::channel(0);
        let deployed = Arc::clone(&self.deployed);
        let mut scenario = Scenario {
            releases: &releases[1..],
            every: options.swap_every,
            deployed: &deployed,
            seen,
        };
        let mut script = pin!(scenario.play(strategy, &mut self.swaps));
        let mut progress = Progress::new(options.swaps);
        let mut tick = interval(progress::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut counting = true;
        let result = loop {
            tokio::select! {
                result = &mut script => break result,
                _ = tick.tick() => progress.show(&mut self.metrics),
                count = self.outcomes.recv_many(&mut batch, 1024), if counting => {
                    counting = count > 0;
                    batch.drain(..).for_each(|outcome| self.metrics.add(&outcome));
                    see.send_if_modified(|seen| {
                        std::mem::replace(seen, self.metrics.newest_seen()) != self.metrics.newest_seen()
                    });
                }
            }
        };
        progress.finish();
        result
    }

    /// Offers no more, waits for what is in flight, and counts it; the number of requests offered.
    async fn end(&mut self) -> Result<u64, DemoError> {
        self.offered_for = self.started.elapsed();
        let Some(attack) = self.attack.take() else {
            return Ok(0);
        };
        attack.stop();
        while let Some(outcome) = self.outcomes.recv().await {
            self.metrics.add(&outcome);
        }
        attack.join().map_err(DemoError::Attack)
    }

    fn setup(&self, options: &Options) -> Setup {
        let started = UNIX_EPOCH + Duration::from_millis(self.started_ms);
        Setup {
            strategy: options.strategy,
            deploy_by: (options.strategy == StrategyName::Handoff).then_some(options.deploy_by),
            connections: options.connections.get(),
            swaps: options.swaps,
            swap_every_ms: millis(options.swap_every),
            started: humantime::format_rfc3339_seconds(started).to_string(),
            duration_s: self.offered_for.as_secs_f64(),
            rate: options.rate.get(),
            started_ms: self.started_ms,
        }
    }
}

fn write_json(summary: &Summary, file: &Path) -> Result<(), DemoError> {
    let failed = |source| DemoError::Json {
        file: file.to_owned(),
        source,
    };
    let mut json = serde_json::to_vec_pretty(summary).map_err(|error| failed(error.into()))?;
    json.push(b'\n');
    fs::write(file, json).map_err(failed)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
