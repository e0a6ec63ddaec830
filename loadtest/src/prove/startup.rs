//! How long the app takes to start by itself: what no handoff can save.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::client::Client;
use crate::process::Process;
use crate::release::Release;
use crate::strategy::StrategyError;
use crate::system::System;
use crate::traffic::{Call, Connection, Place, Shot};

/// For one start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions whether it answers.
const POLL: Duration = Duration::from_millis(2);

/// For the app to end.
const STOP: Duration = Duration::from_secs(10);

/// From its launch to its first answer, in milliseconds.
///
/// # Errors
/// It does not start.
pub async fn measure(release: &Release, system: &System, log: &Path) -> Result<f64, StrategyError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let server = listener.and_then(|listener| listener.local_addr());
    let server = server.map_err(StrategyError::Port)?;
    let arguments = ["-port".to_owned(), server.port().to_string()];
    let start = Instant::now();
    let spawned = Process::spawn(system, &release.file, &arguments, log);
    let mut process = spawned.map_err(|source| StrategyError::Spawn {
        program: release.file.clone(),
        source,
    })?;
    while !answers(server).await {
        if start.elapsed() > PATIENCE {
            return Err(StrategyError::NotServing {
                program: "sample-app",
                within: PATIENCE,
                last: "no answer".to_owned(),
            });
        }
        sleep(POLL).await;
    }
    let took = start.elapsed();
    // How it ends is not what is measured; dropped, it is killed.
    let _ = process.stop(STOP).await;
    Ok((took.as_secs_f64() * 1e6).round() / 1000.0)
}

async fn answers(server: SocketAddr) -> bool {
    let shot = Shot {
        seq: 0,
        connection: Connection::New,
        call: Call::Home,
    };
    let Ok(mut client) = Client::connect(server).await else {
        return false;
    };
    let answer = client.exchange(&shot.encode(&Place::at(server))).await;
    answer.is_ok_and(|answer| answer.status == 200)
}
