//! The schedule of deploys: deploy, wait until clients saw the release, deploy the next.
//!
//! A control run is a deploy whose release is copied, started and probed as any other, and never
//! becomes ready: it ends by itself after [`CONTROL_LIFE`], so that handoff refuses it. It costs what
//! the start of a process costs on this machine; what is missing is the handoff.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::deploy::release::Release;
use crate::deploy::swap::{Swap, unix_ms};
use crate::deploy::{Strategy, StrategyError};

/// Time at the start of which only failures count: caches fill, connections open.
pub const WARM_UP: Duration = Duration::from_secs(2);

/// Life of a control run's release: about as long as the old release of a swap drains.
pub const CONTROL_LIFE: &str = "1500ms";

/// Maximum time for clients to see a deployed release.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// Maximum time for the previous release to stop, or for a control run to be refused.
const STOPPED_WITHIN: Duration = Duration::from_secs(120);

/// Time for which load goes on after the last swap: what a swap breaks may show only then.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Interval at which the steps of swaps are observed.
const OBSERVE: Duration = Duration::from_millis(20);

/// The deploys of a run.
#[derive(Debug)]
pub struct Schedule<'a> {
    /// Releases to deploy, in this order.
    pub releases: &'a [Release],
    /// Releases of control runs, one after each swap.
    pub controls: &'a [Release],
    pub pace: Pace,
    /// Clients can tell releases apart. Without that a swap is over when its deploy is.
    pub names_releases: bool,
    /// Newest deployed release, for the check of answers.
    pub deployed: &'a AtomicU32,
    /// Newest release that a client saw.
    pub seen: watch::Receiver<u32>,
}

/// The times of deploys.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The next deploy `every` after clients saw the release.
    AfterSeen {
        every: Duration,
        /// Time after which load ends and nothing is deployed.
        at_most: Option<Duration>,
    },
    /// Deploys spread `over` this time, and control runs between them; later if they last longer.
    Spread { over: Duration },
}

/// The deploys that were made.
#[derive(Debug, Default)]
pub struct Played {
    pub swaps: Vec<Swap>,
    pub controls: Vec<Swap>,
}

impl Schedule<'_> {
    /// Deploys all releases. Ends early when one is refused or not seen by clients: those that follow
    /// would prove nothing.
    pub async fn play(
        &mut self,
        strategy: &mut impl Strategy,
        played: &mut Played,
    ) -> Result<(), StrategyError> {
        let start = Instant::now();
        let (mut next, end) = match self.pace {
            Pace::AfterSeen { every, at_most } => {
                (start + every.max(WARM_UP), at_most.map(|most| start + most))
            }
            Pace::Spread { .. } => (start, None),
        };
        for (at, release) in self.releases.iter().enumerate() {
            if end.is_some_and(|end| next >= end) {
                break;
            }
            observe_until(next, strategy, &mut played.swaps).await?;
            self.deployed.store(release.number, Ordering::Relaxed);
            deploy(strategy, release, &mut played.swaps).await?;
            if self.names_releases && !self.await_seen(strategy, release, played).await? {
                return Ok(());
            }
            let every = match self.pace {
                Pace::AfterSeen { every, .. } => {
                    next = Instant::now() + every;
                    continue;
                }
                Pace::Spread { over } => over.div_f64(self.releases.len() as f64),
            };
            if !await_step(strategy, &mut played.swaps, Swap::is_over).await? {
                return Ok(());
            }
            if let Some(control) = self.controls.get(at) {
                observe_until(next + every / 2, strategy, &mut []).await?;
                if !run_control(strategy, control, &mut played.controls).await? {
                    return Ok(());
                }
            }
            next += every;
        }
        await_step_of_all(strategy, &mut played.swaps).await?;
        let rest = match (end, self.pace) {
            (Some(end), _) => end,
            (None, Pace::AfterSeen { every, .. }) if played.swaps.is_empty() => start + every,
            (None, _) => Instant::now() + AFTERMATH,
        };
        observe_until(rest, strategy, &mut played.swaps).await
    }

    /// Waits until clients saw the release; returns false if they did not in time.
    async fn await_seen(
        &mut self,
        strategy: &mut impl Strategy,
        release: &Release,
        played: &mut Played,
    ) -> Result<bool, StrategyError> {
        let deadline = Instant::now() + SEEN_WITHIN;
        while Instant::now() < deadline {
            let seen = self.seen.wait_for(|seen| *seen >= release.number);
            match timeout(OBSERVE, seen).await {
                Ok(Ok(_)) => {
                    if let Some(swap) = played.swaps.last_mut() {
                        // The outcomes tell it to the millisecond later.
                        swap.seen_ms = Some(unix_ms().saturating_sub(swap.written_ms));
                    }
                    return Ok(true);
                }
                // The receiver of outcomes has gone.
                Ok(Err(_)) => return Ok(false),
                Err(_) => {}
            }
            strategy.observe(unfinished(&mut played.swaps))?;
            if played
                .swaps
                .last()
                .is_some_and(|swap| swap.refused.is_some())
            {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

/// Deploys the release of a control run and waits until it is refused; returns false if it is not.
async fn run_control(
    strategy: &mut impl Strategy,
    control: &Release,
    controls: &mut Vec<Swap>,
) -> Result<bool, StrategyError> {
    deploy(strategy, control, controls).await?;
    let is_refused = |swap: &Swap| swap.refused.is_some();
    if !await_step(strategy, controls, is_refused).await? {
        return Ok(false);
    }
    if let Some(swap) = controls.last_mut() {
        swap.phases.stopped_ms = Some(unix_ms().saturating_sub(swap.written_ms));
        // It was expected.
        swap.refused = None;
    }
    Ok(true)
}

async fn deploy(
    strategy: &mut impl Strategy,
    release: &Release,
    swaps: &mut Vec<Swap>,
) -> Result<(), StrategyError> {
    let mut swap = Swap::of(release);
    let deployed = strategy.deploy(release, &mut swap).await;
    swaps.push(swap);
    deployed
}

/// Waits until the last swap has come so far; returns false if it has not in time.
async fn await_step(
    strategy: &mut impl Strategy,
    swaps: &mut [Swap],
    has_come: impl Fn(&Swap) -> bool,
) -> Result<bool, StrategyError> {
    let deadline = Instant::now() + STOPPED_WITHIN;
    while Instant::now() < deadline {
        strategy.observe(unfinished(swaps))?;
        if swaps.last().is_some_and(&has_come) {
            return Ok(true);
        }
        sleep(OBSERVE).await;
    }
    Ok(false)
}

async fn await_step_of_all(
    strategy: &mut impl Strategy,
    swaps: &mut [Swap],
) -> Result<(), StrategyError> {
    let deadline = Instant::now() + STOPPED_WITHIN;
    strategy.observe(unfinished(swaps))?;
    while !unfinished(swaps).is_empty() && Instant::now() < deadline {
        sleep(OBSERVE).await;
        strategy.observe(unfinished(swaps))?;
    }
    Ok(())
}

/// Waits, and observes meanwhile whether the server under test is still running.
async fn observe_until(
    end: Instant,
    strategy: &mut impl Strategy,
    swaps: &mut [Swap],
) -> Result<(), StrategyError> {
    loop {
        strategy.observe(unfinished(swaps))?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(OBSERVE)).await;
    }
}

/// Returns the swaps from the first one that is not over: the steps of those before are known.
fn unfinished(swaps: &mut [Swap]) -> &mut [Swap] {
    let first = swaps.iter().take_while(|swap| swap.is_over()).count();
    &mut swaps[first..]
}

#[cfg(test)]
mod tests;
