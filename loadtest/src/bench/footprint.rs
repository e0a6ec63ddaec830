//! How much memory handoff takes, and whether swaps make it grow. Each on a handoff of its own.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep};

use super::backend::SMALL;
use super::figures::median;
use super::load::{Load, Pace};
use super::measure::{connected, finish};
use super::target::{Ground, Sidecar};

const REQUESTS: u64 = 1_000_000;
const IDLE_CONNECTIONS: usize = 5_000;
const SWAPS_BEFORE: u32 = 50;
const SWAPS: u32 = 500;

/// For the million requests: with fewer than 5,000 a second something is wrong.
const MILLION_WITHIN: Duration = Duration::from_secs(200);

/// What was measured, or why not.
pub type Measured = Result<f64, String>;

/// Memory of handoff's processes, in KiB.
#[derive(Debug, Clone, Serialize)]
pub struct Footprint {
    #[serde(serialize_with = "or_null")]
    pub idle_kib: Measured,
    #[serde(serialize_with = "or_null")]
    pub after_million_kib: Measured,
    #[serde(serialize_with = "or_null")]
    pub per_connection_kib: Measured,
    #[serde(serialize_with = "or_null")]
    pub after_50_swaps_kib: Measured,
    #[serde(serialize_with = "or_null")]
    pub after_500_swaps_kib: Measured,
    #[serde(serialize_with = "or_null")]
    pub swaps_ratio: Measured,
}

fn or_null<S: Serializer>(value: &Measured, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().ok().serialize(serializer)
}

impl Default for Footprint {
    fn default() -> Self {
        let not = || Err("it was not measured".to_owned());
        Self {
            idle_kib: not(),
            after_million_kib: not(),
            per_connection_kib: not(),
            after_50_swaps_kib: not(),
            after_500_swaps_kib: not(),
            swaps_ratio: not(),
        }
    }
}

/// Measures all of it.
pub async fn measure(ground: &Ground) -> Footprint {
    let mut footprint = Footprint::default();
    eprintln!("memory: idle, then a million requests on 64 connections");
    match ground.sidecar("footprint", "").await {
        Ok(sidecar) => {
            footprint.idle_kib = resident(&sidecar, ground).await;
            footprint.after_million_kib = million(&sidecar, ground).await;
            sidecar.stop().await;
        }
        Err(error) => footprint.idle_kib = Err(error),
    }
    eprintln!("memory: {IDLE_CONNECTIONS} idle connections");
    footprint.per_connection_kib = match ground.sidecar("idle-connections", "").await {
        Ok(sidecar) => {
            let measured = idle_connections(&sidecar, ground).await;
            sidecar.stop().await;
            measured
        }
        Err(error) => Err(error),
    };
    eprintln!("memory: {SWAPS} swaps");
    match ground.sidecar("swaps", "").await {
        Ok(mut sidecar) => {
            let (early, late) = swaps(&mut sidecar, ground).await;
            sidecar.stop().await;
            footprint.swaps_ratio = match (&early, &late) {
                (Ok(early), Ok(late)) => Ok(late / early),
                (Err(error), _) | (_, Err(error)) => Err(error.clone()),
            };
            footprint.after_50_swaps_kib = early;
            footprint.after_500_swaps_kib = late;
        }
        Err(error) => footprint.swaps_ratio = Err(error),
    }
    footprint
}

/// The median of a second's looks.
async fn resident(sidecar: &Sidecar, ground: &Ground) -> Measured {
    let mut looks = Vec::new();
    for _ in 0..10 {
        sleep(Duration::from_millis(100)).await;
        looks.push(sidecar.rss_kib(ground)? as f64);
    }
    median(looks).ok_or_else(|| "nobody looked".to_owned())
}

fn small(sidecar: &Sidecar, connections: usize, pace: Pace) -> Load {
    Load {
        server: sidecar.server(),
        path: "/small",
        body: SMALL as u64,
        connections,
        fresh: false,
        pace,
    }
}

async fn million(sidecar: &Sidecar, ground: &Ground) -> Measured {
    let running = connected(&small(sidecar, 64, Pace::Closed)).await?;
    let deadline = Instant::now() + MILLION_WITHIN;
    while running.answers() < REQUESTS && !running.has_failed() {
        if Instant::now() > deadline {
            let answers = running.answers();
            return Err(format!("only {answers} answers within {MILLION_WITHIN:?}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    // The connections are still there.
    let rss = sidecar.rss_kib(ground);
    finish(running).await?;
    rss.map(|rss| rss as f64)
}

/// What each connection adds that has been used once.
async fn idle_connections(sidecar: &Sidecar, ground: &Ground) -> Measured {
    let before = resident(sidecar, ground).await?;
    // Next to nothing is sent: the load has to keep going, the connections have to be idle.
    let seldom = Pace::Open { per_second: 1.0 };
    let running = connected(&small(sidecar, IDLE_CONNECTIONS, seldom)).await?;
    let after = resident(sidecar, ground).await;
    finish(running).await?;
    Ok((after? - before) / IDLE_CONNECTIONS as f64)
}

/// After the first swaps and after all of them, with no superseded app left.
async fn swaps(sidecar: &mut Sidecar, ground: &Ground) -> (Measured, Measured) {
    let early = swap(sidecar, 0..SWAPS_BEFORE, ground).await;
    if early.is_err() {
        return (early.clone(), early);
    }
    let late = swap(sidecar, SWAPS_BEFORE..SWAPS, ground).await;
    (early, late)
}

async fn swap(sidecar: &mut Sidecar, numbers: std::ops::Range<u32>, ground: &Ground) -> Measured {
    for number in numbers {
        // The first release serves already.
        let swapped = sidecar.swap(number + 2).await;
        swapped.map_err(|error| format!("swap {}: {error}", number + 1))?;
    }
    sidecar.settled(ground).await?;
    resident(sidecar, ground).await
}
