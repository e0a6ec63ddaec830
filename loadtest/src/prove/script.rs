//! The script of a part: swap, wait until the old release has stopped, make a sham swap, and so on.
//!
//! A sham swap is a deploy whose release is copied, started and probed as any other, and never
//! becomes ready: it ends by itself after [`SHAM_LIFE`], so that handoff throws it away. What a
//! machine spends on starting a process it spends here, too; what is missing is the handoff.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::release::Release;
use crate::scenario::{Swap, unix_ms};
use crate::strategy::{Strategy, StrategyError};

/// So long a sham release lives. A swap takes about as long: its old release drains until the last
/// slow answer has ended.
pub const SHAM_LIFE: &str = "1500ms";

/// For each wait of the script.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the strategy is asked what has become of the swaps.
const OBSERVE: Duration = Duration::from_millis(20);

/// Load goes on this long after the last swap: what a swap breaks may show only then.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What is deployed, and when.
#[derive(Debug)]
pub struct Script<'a> {
    /// Deployed in this order.
    pub swaps: &'a [Release],
    /// One after each swap, as far as there are.
    pub shams: &'a [Release],
    /// Before the first.
    pub warm_up: Duration,
    /// From a swap to the next, and half of it to the sham between them; more if they last longer.
    pub every: Duration,
    /// Nothing is deployed later.
    pub until: Option<Instant>,
    /// Tells whoever checks answers which releases are possible.
    pub deployed: &'a AtomicU32,
    /// The newest release that a client saw.
    pub seen: watch::Receiver<u32>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Played {
    pub swaps: Vec<Swap>,
    pub shams: Vec<Swap>,
    /// What did not go as it should, in words.
    pub problems: Vec<String>,
}

impl Script<'_> {
    /// Plays it. Ends early when a swap does not come to its end: those that follow could prove
    /// nothing.
    ///
    /// # Errors
    /// The process under test ended, or could not be given the next release.
    pub async fn play(
        &mut self,
        strategy: &mut impl Strategy,
        played: &mut Played,
    ) -> Result<(), StrategyError> {
        let mut next = Instant::now() + self.warm_up;
        for (at, release) in self.swaps.iter().enumerate() {
            if self.until.is_some_and(|until| next >= until) {
                break;
            }
            pass(strategy, next).await?;
            self.deployed.store(release.number, Ordering::Relaxed);
            deploy(strategy, release, &mut played.swaps).await?;
            let swap = until(strategy, &mut played.swaps, |swap| {
                swap.refused.is_some() || swap.window().1.is_some()
            });
            let over = swap.await?;
            let refused = played.swaps.last().and_then(|swap| swap.refused.clone());
            if let Some(reason) = refused {
                let problem = format!("{} was refused: {reason}", release.name());
                played.problems.push(problem);
                return Ok(());
            }
            if !over {
                let problem = format!("the release before {} was not stopped", release.name());
                played.problems.push(problem);
                return Ok(());
            }
            let number = release.number;
            let seen = timeout(PATIENCE, self.seen.wait_for(|seen| *seen >= number));
            if !matches!(seen.await, Ok(Ok(_))) {
                let problem = format!("clients never saw {}", release.name());
                played.problems.push(problem);
                return Ok(());
            }

            let Some(sham) = self.shams.get(at) else {
                next = Instant::now() + self.every;
                continue;
            };
            pass(strategy, next + self.every / 2).await?;
            deploy(strategy, sham, &mut played.shams).await?;
            let over = until(strategy, &mut played.shams, |swap| swap.refused.is_some());
            if !over.await? {
                let problem = format!("the sham release {} was not refused", sham.name());
                played.problems.push(problem);
                return Ok(());
            }
            if let Some(swap) = played.shams.last_mut() {
                let gone = unix_ms().saturating_sub(swap.written_ms);
                swap.phases.stopped_ms = Some(gone);
                // That was asked for.
                swap.refused = None;
            }
            next += self.every;
        }
        pass(strategy, Instant::now() + AFTERMATH).await
    }
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

/// Whether the last swap came so far in time.
async fn until(
    strategy: &mut impl Strategy,
    swaps: &mut [Swap],
    is_over: impl Fn(&Swap) -> bool,
) -> Result<bool, StrategyError> {
    let deadline = Instant::now() + PATIENCE;
    let last = swaps.len().saturating_sub(1);
    while Instant::now() < deadline {
        // What is over is known for good.
        let swaps = &mut swaps[last..];
        strategy.observe(swaps)?;
        if swaps.iter().any(&is_over) {
            return Ok(true);
        }
        sleep(OBSERVE).await;
    }
    Ok(false)
}

/// Waits, and notices meanwhile when the process under test has ended.
async fn pass(strategy: &mut impl Strategy, until: Instant) -> Result<(), StrategyError> {
    loop {
        strategy.observe(&mut [])?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(Duration::from_millis(250))).await;
    }
}
