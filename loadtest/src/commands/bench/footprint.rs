//! The memory of handoff, and its growth with swaps; each figure of a handoff of its own.

use std::ops::Range;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::{sleep, timeout};

use super::target::{Baseline, Sidecar};
use super::tool;
use crate::generator::client::Client;
use crate::generator::failure::Failed;
use crate::units::median;

const REQUESTS: u64 = 1_000_000;
const IDLE_CONNECTIONS: usize = 5_000;
const SWAPS_BEFORE: u32 = 50;
const SWAPS: u32 = 500;

/// Maximum time of the million requests: with fewer than 5,000 a second something is wrong.
const MILLION_WITHIN: Duration = Duration::from_secs(200);

/// A figure, or the reason for which it is missing.
pub type Measured = Result<f64, String>;

/// Memory of handoff's processes, in KiB.
#[derive(Clone, Debug, Serialize)]
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

/// Measures all figures.
pub async fn measure(baseline: &Baseline) -> Footprint {
    eprintln!("memory: idle, then a million requests on 64 connections");
    let requests = with_sidecar(baseline, "footprint", async |sidecar| {
        let idle = resident(sidecar, baseline).await;
        Ok((idle, million(sidecar, baseline).await))
    });
    let requests = requests.await;
    eprintln!("memory: {IDLE_CONNECTIONS} idle connections");
    let connections = with_sidecar(baseline, "idle-connections", async |sidecar| {
        idle_connections(sidecar, baseline).await
    });
    let per_connection_kib = connections.await;
    eprintln!("memory: {SWAPS} swaps");
    let swaps = with_sidecar(baseline, "swaps", async |sidecar| {
        let early = swap(sidecar, 0..SWAPS_BEFORE, baseline).await?;
        Ok((early, swap(sidecar, SWAPS_BEFORE..SWAPS, baseline).await))
    });
    let swaps = swaps.await;
    let (idle_kib, after_million_kib) =
        requests.unwrap_or_else(|error| (Err(error.clone()), Err(error)));
    let (early, late) = match swaps {
        Ok((early, late)) => (Ok(early), late),
        Err(error) => (Err(error.clone()), Err(error)),
    };
    let ratio = |early: f64| late.clone().map(|late| late / early);
    Footprint {
        idle_kib,
        after_million_kib,
        per_connection_kib,
        swaps_ratio: early.clone().and_then(ratio),
        after_50_swaps_kib: early,
        after_500_swaps_kib: late,
    }
}

/// Starts a handoff, measures it, and ends it.
async fn with_sidecar<T>(
    baseline: &Baseline,
    name: &str,
    measure: impl AsyncFnOnce(&mut Sidecar) -> Result<T, String>,
) -> Result<T, String> {
    let mut sidecar = baseline.sidecar(name, "").await?;
    let measured = measure(&mut sidecar).await;
    sidecar.stop().await;
    measured
}

/// Returns the median of a second's readings.
async fn resident(sidecar: &Sidecar, baseline: &Baseline) -> Measured {
    let mut readings = Vec::new();
    for _ in 0..10 {
        sleep(Duration::from_millis(100)).await;
        readings.push(sidecar.rss_kib(baseline)? as f64);
    }
    median(readings).ok_or_else(|| "memory was not read".to_owned())
}

/// Returns the most that was seen during the requests, while the connections were open.
async fn million(sidecar: &Sidecar, baseline: &Baseline) -> Measured {
    let mut most = 0;
    let look = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            match sidecar.rss_kib(baseline) {
                Ok(rss) => most = most.max(rss),
                Err(error) => return error,
            }
        }
    };
    let sent = timeout(MILLION_WITHIN, tool::send(sidecar.server(), REQUESTS, 64));
    tokio::select! {
        sent = sent => match sent {
            Ok(sent) => sent?,
            Err(_) => return Err(format!("they took longer than {MILLION_WITHIN:?}")),
        },
        error = look => return Err(error),
    };
    Ok(most as f64)
}

/// Returns the share of each connection that has been used once.
async fn idle_connections(sidecar: &Sidecar, baseline: &Baseline) -> Measured {
    let before = resident(sidecar, baseline).await?;
    let server = sidecar.server();
    let request = format!("GET /small HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let mut clients = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        let connected = async {
            let mut client = Client::connect(server).await?;
            client.send(request.as_bytes()).await?;
            Ok(client)
        };
        let client: Result<Client, Failed> = connected.await;
        clients.push(client.map_err(|failed| failed.detail)?);
    }
    let after = resident(sidecar, baseline).await?;
    drop(clients);
    Ok((after - before) / IDLE_CONNECTIONS as f64)
}

/// Makes these swaps; returns the memory when no superseded app is left.
async fn swap(sidecar: &mut Sidecar, numbers: Range<u32>, baseline: &Baseline) -> Measured {
    for number in numbers {
        // The first release serves already.
        let swapped = sidecar.swap(number + 2).await;
        swapped.map_err(|error| format!("swap {}: {error}", number + 1))?;
    }
    sidecar.wait_until_settled(baseline).await?;
    resident(sidecar, baseline).await
}
