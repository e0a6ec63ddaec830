//! One server under load while releases are deployed: from its start to its end.
//!
//! ```text
//! schedule ─deploys─▶ strategy (the server under test) ─▶ apps ─▶ journal ─┐
//!                        ▲ requests                                        ├─▶ part
//!                     generator ─▶ outcomes ─▶ tally ──────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use sample_app::journal::{Entry, ReadError};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::deploy::release::Release;
use crate::deploy::swap::{Swap, unix_ms};
use crate::deploy::{Strategy, StrategyError, startup};
use crate::generator::mix::Mix;
use crate::generator::outcome::Outcome;
use crate::generator::request::Destination;
use crate::generator::{Generator, LoadPlan, Releases};
use crate::host::interrupt::wait_for_interrupt;
use crate::host::system::System;
use crate::journal;
use crate::progress::{self, Progress};
use crate::report::part::{Part, PartSpec};
use crate::schedule::{Pace, Played, Schedule, WARM_UP};
use crate::tally::{Tally, Windows};
use crate::units::{millis, rounded, thousands};

/// Default maximum time of one request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of starts of the app alone.
const STARTS: u32 = 5;

/// A session: what is offered, and deployed meanwhile.
#[derive(Debug)]
pub struct SessionPlan<'a> {
    pub spec: &'a PartSpec,
    pub mix: Mix,
    /// Maximum time of one request.
    pub timeout: Duration,
    /// Destination of the requests; by default the address of the server.
    pub destination: Option<Destination>,
    /// Newest release that may answer before something is deployed.
    pub serves: u32,
    pub releases: &'a [Release],
    /// Releases of control runs.
    pub controls: &'a [Release],
    pub pace: Pace,
    /// App whose start-up time is measured.
    pub startup: Option<Startup<'a>>,
    /// Journal of the apps.
    pub journal: Option<&'a Path>,
}

/// An app that is started alone.
#[derive(Debug)]
pub struct Startup<'a> {
    pub release: &'a Release,
    pub system: &'a System,
    pub log: &'a Path,
}

/// An error that fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    #[error("offer load: {0}")]
    Generator(io::Error),
    #[error("read the journal: {0}")]
    Journal(#[from] ReadError),
    #[error("finish: interrupted after {} requests", thousands(*.0))]
    Interrupted(u64),
}

/// Starts the server under test, offers load while releases are deployed, and ends both.
pub async fn hold<S: Strategy>(
    start: impl Future<Output = Result<S, StrategyError>>,
    plan: &SessionPlan<'_>,
) -> Result<Part, SessionError> {
    let mut interrupt = pin!(wait_for_interrupt());
    let mut strategy = tokio::select! {
        strategy = start => strategy?,
        () = &mut interrupt => return Err(SessionError::Interrupted(0)),
    };
    // Numbers begin at 0 each time: entries of an earlier run would be taken for this one's.
    let earlier = plan.journal.map(journal::read).transpose()?;
    let (generator, mut session) = Session::start(strategy.server(), plan)?;
    let ended = tokio::select! {
        ended = session.play(&mut strategy, plan) => Some(ended),
        () = &mut interrupt => None,
    };
    generator.stop();
    session.duration = session.started.elapsed();
    while let Some(outcome) = session.outcomes.recv().await {
        session.tally.add(&outcome);
    }
    let offered = generator.join().map_err(SessionError::Generator)?;
    let stopped = strategy.stop().await;
    let sent = session.tally.sent();
    let ended = ended.ok_or(SessionError::Interrupted(sent))?;

    // A server that ended by itself cannot be stopped: that error would add nothing.
    let failed = ended.and(stopped).err();
    let failed = failed.map(|error| format!("failed to {error}"));
    let mut problems = Vec::from_iter(failed);
    if offered != sent {
        let (offered, sent) = (thousands(offered), thousands(sent));
        problems.push(format!(
            "{offered} requests were offered, {sent} are accounted for"
        ));
    }
    let journal = plan.journal.map(journal::read).transpose()?;
    let journal = journal.map(|entries| journal::without(entries, earlier.unwrap_or_default()));
    Ok(session.into_part(plan, journal.as_deref(), problems))
}

/// The load and its outcomes so far.
struct Session {
    destination: Destination,
    outcomes: UnboundedReceiver<Outcome>,
    deployed: Arc<AtomicU32>,
    tally: Tally,
    played: Played,
    startup_ms: Vec<f64>,
    started: Instant,
    /// Start of the load, in unix milliseconds.
    started_ms: u64,
    duration: Duration,
}

impl Session {
    fn start(
        server: SocketAddr,
        plan: &SessionPlan<'_>,
    ) -> Result<(Generator, Self), SessionError> {
        let deployed = Arc::new(AtomicU32::new(plan.serves));
        let (sender, outcomes) = unbounded_channel();
        let destination = plan.destination.clone();
        let destination = destination.unwrap_or_else(|| Destination::at(server));
        let load = LoadPlan {
            server,
            destination: destination.clone(),
            rate: plan.spec.rate,
            connections: plan.spec.connections,
            timeout: plan.timeout,
            deployed: Arc::clone(&deployed),
            mix: plan.mix,
            releases: if plan.spec.names_releases {
                Releases::InOrder
            } else {
                Releases::Unnamed
            },
            has_journal: plan.spec.has_journal,
        };
        let generator = Generator::start(load, sender).map_err(SessionError::Generator)?;
        let started = generator.started();
        let session = Self {
            destination,
            outcomes,
            deployed,
            tally: Tally::new(WARM_UP),
            played: Played::default(),
            startup_ms: Vec::new(),
            started,
            started_ms: unix_ms() - millis(started.elapsed()),
            duration: Duration::ZERO,
        };
        Ok((generator, session))
    }

    /// Deploys by the schedule and counts meanwhile, until the requests have been sent.
    async fn play(
        &mut self,
        strategy: &mut impl Strategy,
        plan: &SessionPlan<'_>,
    ) -> Result<(), StrategyError> {
        let (see, seen) = watch::channel(0);
        let (started, deployed) = (self.started, Arc::clone(&self.deployed));
        let (played, startup_ms) = (&mut self.played, &mut self.startup_ms);
        let mut script = pin!(async {
            if let Some(app) = &plan.startup {
                sleep(WARM_UP).await;
                for _ in 0..STARTS {
                    startup_ms.push(startup::measure(app.release, app.system, app.log).await?);
                }
            }
            let pace = match plan.pace {
                Pace::AfterSeen { .. } => plan.pace,
                Pace::Spread { over } => Pace::Spread {
                    over: over.saturating_sub(started.elapsed()),
                },
            };
            let mut schedule = Schedule {
                releases: plan.releases,
                controls: plan.controls,
                pace,
                names_releases: plan.spec.names_releases,
                deployed: &deployed,
                seen,
            };
            schedule.play(strategy, played).await
        });
        let swaps = u32::try_from(plan.releases.len()).unwrap_or(u32::MAX);
        let mut progress = Progress::new(plan.serves, swaps);
        let mut tick = interval(progress::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (tally, outcomes) = (&mut self.tally, &mut self.outcomes);
        let mut batch = Vec::new();
        let mut is_counting = true;
        let mut is_played = false;
        while !is_played || is_counting && tally.sent() < plan.spec.requests {
            tokio::select! {
                ended = &mut script, if !is_played => {
                    if ended.is_err() {
                        progress.finish();
                        return ended;
                    }
                    is_played = true;
                }
                _ = tick.tick() => progress.show(tally),
                count = outcomes.recv_many(&mut batch, 1024), if is_counting => {
                    is_counting = count > 0;
                    batch.drain(..).for_each(|outcome| tally.add(&outcome));
                    let newest = tally.newest_seen();
                    see.send_if_modified(|seen| std::mem::replace(seen, newest) != newest);
                }
            }
        }
        progress.finish();
        Ok(())
    }

    fn into_part(
        mut self,
        plan: &SessionPlan<'_>,
        journal: Option<&[Entry]>,
        mut problems: Vec<String>,
    ) -> Part {
        let all = self
            .played
            .swaps
            .iter_mut()
            .chain(&mut self.played.controls);
        for swap in all {
            let since_start = swap.written_ms.saturating_sub(self.started_ms);
            swap.at_s = since_start as f64 / 1000.0;
            let seen = self.tally.seen(swap.number);
            swap.seen_ms = seen.map(|seen| millis(seen).saturating_sub(since_start));
        }
        let (swaps, control_runs) = (self.played.swaps, self.played.controls);
        let (sent, reopened) = (self.tally.sent(), self.tally.reopened());
        let lateness = self.tally.lateness().clone();
        let (in_swaps, in_controls) = (windows(&swaps), windows(&control_runs));
        let counts = self.tally.count(journal, &in_swaps, &in_controls);
        if let Some(first) = counts.strangers.first() {
            let count = thousands(counts.strangers.len() as u64);
            problems.push(format!(
                "apps wrote down {count} requests that were never sent; the first is: {first}"
            ));
        }
        let Destination { host, page } = &self.destination;
        Part {
            spec: plan.spec.clone(),
            url: format!("http://{host}{page}"),
            started_ms: self.started_ms,
            duration_s: self.duration.as_secs_f64(),
            sent,
            sent_again: counts.sent_again,
            reopened,
            failed: BTreeMap::from_iter(counts.failed),
            examples: counts.examples,
            lateness,
            classes: counts.classes,
            moments: counts.moments,
            stall_ms: rounded(counts.stall.as_secs_f64() * 1e3),
            gap_ms: rounded(counts.gap.as_secs_f64() * 1e3),
            swaps,
            control_runs,
            startup_ms: self.startup_ms,
            problems,
        }
    }
}

/// Returns the times of swaps. One that never ended lasts to the end of the run.
fn windows(swaps: &[Swap]) -> Windows {
    let windows = swaps.iter().map(|swap| {
        let (start, end) = swap.window_s();
        let end = end.map_or(Duration::MAX, Duration::from_secs_f64);
        (Duration::from_secs_f64(start), end)
    });
    Windows::merge(windows.collect())
}
