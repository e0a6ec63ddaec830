//! The script of a run: deploy, wait until clients saw it, wait a while, deploy the next.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::metrics::WARM_UP;
use crate::numbers::millis;
use crate::release::Release;
use crate::strategy::{Strategy, StrategyError};

/// For clients to see a deployed release.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// For the release before to be drained and stopped.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Load goes on this long after the last swap: what a swap breaks may show only then.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How often the strategy is asked what has become of the swaps.
const OBSERVE: Duration = Duration::from_millis(50);

/// One deploy of a release, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Swap {
    /// The release's name.
    pub release: String,
    #[serde(flatten)]
    pub phases: Phases,
    /// When an answer first named it.
    pub seen_ms: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    #[serde(skip)]
    pub number: u32,
    #[serde(skip)]
    pub sha256: String,
    /// When its deploy was written, in unix milliseconds.
    #[serde(skip)]
    pub written_ms: u64,
}

/// When each step of a swap was over, in milliseconds since the deploy was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    pub detected_ms: Option<u64>,
    /// Its private copy is complete.
    pub copied_ms: Option<u64>,
    /// Its process is started.
    pub launched_ms: Option<u64>,
    pub ready_ms: Option<u64>,
    pub promoted_ms: Option<u64>,
    /// The release before has no request left.
    pub drained_ms: Option<u64>,
    /// The release before has ended.
    pub stopped_ms: Option<u64>,
}

impl Phases {
    /// What they are called, in their order.
    pub const NAMES: [&'static str; 7] = [
        "detected", "copied", "launched", "ready", "promoted", "drained", "stopped",
    ];

    /// When each was over, in their order.
    pub fn ends(&self) -> [Option<u64>; 7] {
        [
            self.detected_ms,
            self.copied_ms,
            self.launched_ms,
            self.ready_ms,
            self.promoted_ms,
            self.drained_ms,
            self.stopped_ms,
        ]
    }
}

/// What is deployed, and when.
#[derive(Debug)]
pub struct Scenario<'a> {
    /// All but the first, which serves already.
    pub releases: &'a [Release],
    /// From clients seeing a release to the deploy of the next.
    pub every: Duration,
    /// Load ends after so long, and nothing is deployed that would begin later.
    pub at_most: Option<Duration>,
    /// Clients can tell releases apart. Else a swap is over when its deploy is.
    pub names_releases: bool,
    /// Tells whoever checks answers which releases are possible.
    pub deployed: &'a AtomicU32,
    /// The newest release that a client saw.
    pub seen: watch::Receiver<u32>,
}

// === impl Swap ===

impl Swap {
    pub fn of(release: &Release) -> Self {
        Self {
            release: release.name(),
            phases: Phases::default(),
            seen_ms: None,
            refused: None,
            number: release.number,
            sha256: release.sha256.clone(),
            written_ms: 0,
        }
    }

    /// From detected to the last step, in milliseconds since the deploy was written, and not before
    /// clients saw it; the end is none when it is not over.
    pub fn window(&self) -> (u64, Option<u64>) {
        let Phases {
            detected_ms,
            promoted_ms,
            stopped_ms,
            ..
        } = self.phases;
        // Stop-and-start stops first and promotes last.
        (
            detected_ms.unwrap_or(0),
            promoted_ms
                .zip(stopped_ms)
                .map(|(promoted, stopped)| promoted.max(stopped).max(self.seen_ms.unwrap_or(0))),
        )
    }
}

// === impl Scenario ===

impl Scenario<'_> {
    /// Plays the script; `swaps` grows by one a deploy. Ends early when a release is refused or
    /// clients do not see it: those that follow could prove nothing.
    ///
    /// # Errors
    /// The process under test ended, or could not be given the next release.
    pub async fn play(
        &mut self,
        strategy: &mut impl Strategy,
        swaps: &mut Vec<Swap>,
    ) -> Result<(), StrategyError> {
        let start = Instant::now();
        // What begins within the warm-up is not measured.
        let mut wait = self.every.max(WARM_UP);
        for release in self.releases {
            if self
                .at_most
                .is_some_and(|most| start.elapsed() + wait >= most)
            {
                break;
            }
            self.watch_for(strategy, swaps, wait).await?;
            wait = self.every;
            self.deployed.store(release.number, Ordering::Relaxed);
            let mut swap = Swap::of(release);
            let deployed = strategy.deploy(release, &mut swap).await;
            swaps.push(swap);
            deployed?;
            if self.names_releases && !self.until_seen(strategy, swaps, release.number).await? {
                return Ok(());
            }
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        strategy.observe(swaps)?;
        while swaps.iter().any(|swap| swap.window().1.is_none()) && Instant::now() < deadline {
            self.watch_for(strategy, swaps, OBSERVE).await?;
        }
        let rest = match self.at_most {
            Some(most) => most.saturating_sub(start.elapsed()),
            None if swaps.is_empty() => self.every,
            None => AFTERMATH,
        };
        self.watch_for(strategy, swaps, rest).await
    }

    /// Whether clients saw it in time.
    async fn until_seen(
        &mut self,
        strategy: &mut impl Strategy,
        swaps: &mut [Swap],
        number: u32,
    ) -> Result<bool, StrategyError> {
        let deadline = Instant::now() + SEEN_WITHIN;
        while Instant::now() < deadline {
            match timeout(OBSERVE, self.seen.wait_for(|seen| *seen >= number)).await {
                Ok(Ok(_)) => {
                    if let Some(swap) = swaps.last_mut() {
                        // Who has counted will know it to the millisecond.
                        swap.seen_ms = Some(unix_ms().saturating_sub(swap.written_ms));
                    }
                    return Ok(true);
                }
                // Nobody counts any more.
                Ok(Err(_)) => return Ok(false),
                Err(_) => {}
            }
            strategy.observe(swaps)?;
            if swaps.last().is_some_and(|swap| swap.refused.is_some()) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    async fn watch_for(
        &self,
        strategy: &mut impl Strategy,
        swaps: &mut [Swap],
        time: Duration,
    ) -> Result<(), StrategyError> {
        let end = Instant::now() + time;
        while Instant::now() + OBSERVE < end {
            sleep(OBSERVE).await;
            strategy.observe(swaps)?;
        }
        sleep_until(end).await;
        strategy.observe(swaps)
    }
}

/// Now, by the clock that processes share.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    millis(since)
}

#[cfg(test)]
mod tests;
