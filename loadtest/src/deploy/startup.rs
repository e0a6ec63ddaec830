//! The start-up time of the app alone, which no deployer can save.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::release::Release;
use super::{POLL, StrategyError, free_address};
use crate::generator::client::is_serving;
use crate::host::process::Process;
use crate::host::system::System;
use crate::units::rounded;

/// Maximum time of one start.
const START: Duration = Duration::from_secs(60);

/// Maximum time for the app to end.
const STOP: Duration = Duration::from_secs(10);

/// Returns the time from the launch to the first answer, in milliseconds.
pub async fn measure(release: &Release, system: &System, log: &Path) -> Result<f64, StrategyError> {
    let server = free_address().await?;
    let arguments = ["-port".to_owned(), server.port().to_string()];
    let start = Instant::now();
    let spawned = Process::spawn(system, &release.file, &arguments, log);
    let mut process = spawned.map_err(StrategyError::spawn(&release.file))?;
    while !is_serving(server, "/").await {
        if start.elapsed() > START {
            return Err(StrategyError::NotServing {
                program: "sample-app",
                within: START,
                last: "no answer".to_owned(),
            });
        }
        sleep(POLL).await;
    }
    let took = start.elapsed();
    // Its end is not what is measured; dropped, it is killed.
    let _ = process.stop(STOP).await;
    Ok(rounded(took.as_secs_f64() * 1e3))
}
