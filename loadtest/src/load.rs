//! Load at a fixed rate while a scenario plays, and what became of it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::attack::{Attack, Plan};
use crate::cli::DeployBy;
use crate::interrupt::interrupted;
use crate::metrics::{Metrics, WARM_UP};
use crate::numbers::millis;
use crate::progress::{self, Progress};
use crate::release::Release;
use crate::result::Outcome;
use crate::scenario::{Scenario, Swap, unix_ms};
use crate::strategy::{Strategy, StrategyError};
use crate::summary::{Setup, Summary};
use crate::traffic::{Mix, Place};

/// For one request, unless something else is asked for.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What is offered, and meanwhile deployed.
#[derive(Debug)]
pub struct Order<'a> {
    /// What is under test: in a word, and for a person.
    pub strategy: String,
    pub title: String,
    pub deploy_by: Option<DeployBy>,
    /// The command that deploys, where it is one.
    pub deploy: Option<String>,
    /// None: as the server's address says.
    pub place: Option<Place>,
    pub mix: Mix,
    pub rate: NonZeroU32,
    pub connections: NonZeroUsize,
    /// For one request.
    pub timeout: Duration,
    /// Answers name their release.
    pub names_releases: bool,
    /// The release that serves already; the newest that may answer before something is deployed.
    pub serves: u32,
    /// What is deployed, in this order.
    pub releases: &'a [Release],
    pub every: Duration,
    /// As many releases as there is time for; else all.
    pub at_most: Option<Duration>,
}

impl<'a> Order<'a> {
    /// The demo's mix on sample-app, whose `releases` are deployed from the second on; nothing is
    /// said yet of what is under test.
    pub fn of_sample_app(
        rate: NonZeroU32,
        connections: NonZeroUsize,
        releases: &'a [Release],
        every: Duration,
    ) -> Self {
        Self {
            strategy: String::new(),
            title: String::new(),
            deploy_by: None,
            deploy: None,
            place: None,
            mix: Mix::new(rate, connections),
            rate,
            connections,
            timeout: REQUEST_TIMEOUT,
            names_releases: true,
            serves: 1,
            releases: releases.get(1..).unwrap_or_default(),
            every,
            at_most: None,
        }
    }
}

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    #[error("offer load: {0}")]
    Attack(io::Error),
    #[error("finish: interrupted after {0} requests")]
    Interrupted(u64),
}

/// Starts what is under test, offers load while the scenario plays, and ends both.
///
/// # Errors
/// There is nothing to sum up, as it could not be made.
pub async fn measure<S: Strategy>(
    start: impl Future<Output = Result<S, StrategyError>>,
    order: &Order<'_>,
) -> Result<Summary, LoadError> {
    let mut interrupt = pin!(interrupted());
    let mut strategy = tokio::select! {
        strategy = start => strategy?,
        () = &mut interrupt => return Err(LoadError::Interrupted(0)),
    };
    let mut load = Load::start(strategy.server(), order)?;
    let played = tokio::select! {
        played = load.play(&mut strategy, order) => Some(played),
        () = &mut interrupt => None,
    };
    let offered = load.end().await;
    let stopped = strategy.stop().await;
    let Some(played) = played else {
        return Err(LoadError::Interrupted(load.metrics.sent()));
    };
    // What ended by itself cannot be stopped: that would be no news.
    let trouble = played.and(stopped).err();
    let trouble = trouble
        .map(|error| format!("failed to {error}"))
        .into_iter()
        .collect();
    let setup = load.setup(order);
    Ok(Summary::new(
        setup,
        &load.metrics,
        load.swaps,
        offered?,
        trouble,
    ))
}

/// Load and what is known of it.
struct Load {
    place: Place,
    attack: Option<Attack>,
    outcomes: UnboundedReceiver<Outcome>,
    deployed: Arc<AtomicU32>,
    metrics: Metrics,
    swaps: Vec<Swap>,
    started: Instant,
    started_ms: u64,
    offered_for: Duration,
}

impl Load {
    fn start(server: SocketAddr, order: &Order<'_>) -> Result<Self, LoadError> {
        let deployed = Arc::new(AtomicU32::new(order.serves));
        let (sender, outcomes) = unbounded_channel();
        let place = order.place.clone().unwrap_or_else(|| Place::at(server));
        let plan = Plan {
            server,
            place: place.clone(),
            rate: order.rate,
            connections: order.connections,
            timeout: order.timeout,
            deployed: Arc::clone(&deployed),
            mix: order.mix,
            names_releases: order.names_releases,
            journaled: false,
        };
        let attack = Attack::launch(plan, sender).map_err(LoadError::Attack)?;
        let started = attack.started();
        Ok(Self {
            place,
            attack: Some(attack),
            outcomes,
            deployed,
            metrics: Metrics::new(WARM_UP),
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
        order: &Order<'_>,
    ) -> Result<(), StrategyError> {
        let (see, seen) = watch::channel(0);
        let deployed = Arc::clone(&self.deployed);
        let mut scenario = Scenario {
            releases: order.releases,
            every: order.every,
            at_most: order.at_most,
            names_releases: order.names_releases,
            deployed: &deployed,
            seen,
        };
        let swaps = u32::try_from(order.releases.len()).unwrap_or(u32::MAX);
        let mut script = pin!(scenario.play(strategy, &mut self.swaps));
        let mut progress = Progress::new(order.serves, swaps);
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
    async fn end(&mut self) -> Result<u64, LoadError> {
        self.offered_for = self.started.elapsed();
        let Some(attack) = self.attack.take() else {
            return Ok(0);
        };
        attack.stop();
        while let Some(outcome) = self.outcomes.recv().await {
            self.metrics.add(&outcome);
        }
        attack.join().map_err(LoadError::Attack)
    }

    fn setup(&self, order: &Order<'_>) -> Setup {
        let started = UNIX_EPOCH + Duration::from_millis(self.started_ms);
        // With a time, as many as there was time for.
        let swaps = match order.at_most {
            Some(_) => self.swaps.len(),
            None => order.releases.len(),
        };
        Setup {
            strategy: order.strategy.clone(),
            title: order.title.clone(),
            names_releases: order.names_releases,
            url: format!("http://{}{}", self.place.host, self.place.page),
            deploy_by: order.deploy_by,
            deploy: order.deploy.clone(),
            connections: order.connections.get(),
            swaps: u32::try_from(swaps).unwrap_or(u32::MAX),
            swap_every_ms: millis(order.every),
            started: humantime::format_rfc3339_seconds(started).to_string(),
            duration_s: self.offered_for.as_secs_f64(),
            rate: order.rate.get(),
            started_ms: self.started_ms,
        }
    }
}

/// Writes a result as JSON.
///
/// # Errors
/// It cannot be written.
pub fn write_json(result: &impl serde::Serialize, file: &Path) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(result)?;
    json.push(b'\n');
    fs::write(file, json)
}
