//! The way without handoff: the app owns the port; stop it, replace its file, start it again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::release::Release;
use super::site::Site;
use super::swap::{Swap, unix_ms};
use super::{Strategy, StrategyError, check_running, free_address, wait_until_listening};
use crate::host::process::Process;
use crate::units::millis;

/// Maximum time for the app to accept connections.
const START: Duration = Duration::from_secs(30);

/// Maximum time for the app to finish its requests after it was asked to stop.
const STOP: Duration = Duration::from_secs(30);

/// sample-app on the public port.
#[derive(Debug)]
pub struct Restart {
    process: Process,
    site: Site,
    log: PathBuf,
    server: SocketAddr,
}

impl Restart {
    /// Starts the first release as the site's artifact and waits until it accepts connections.
    pub async fn start(site: Site, first: &Release, log: &Path) -> Result<Self, StrategyError> {
        let server = free_address().await?;
        let copied = site.copy(first, &site.artifact());
        copied.map_err(StrategyError::deploy(first))?;
        let process = launch(&site, server, log).await?;
        Ok(Self {
            process,
            site,
            log: log.to_owned(),
            server,
        })
    }
}

impl Strategy for Restart {
    fn server(&self) -> SocketAddr {
        self.server
    }

    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError> {
        swap.written_ms = unix_ms();
        let start = Instant::now();
        let since = || Some(millis(start.elapsed()));
        swap.phases.detected_ms = Some(0);
        let stopped = self.process.stop(STOP).await;
        stopped.map_err(StrategyError::stop("sample-app"))?;
        swap.phases.drained_ms = since();
        swap.phases.stopped_ms = swap.phases.drained_ms;
        let copied = self.site.copy(release, &self.site.artifact());
        copied.map_err(StrategyError::deploy(release))?;
        self.process = launch(&self.site, self.server, &self.log).await?;
        swap.phases.ready_ms = since();
        swap.phases.promoted_ms = swap.phases.ready_ms;
        Ok(())
    }

    fn observe(&mut self, _swaps: &mut [Swap]) -> Result<(), StrategyError> {
        check_running(&mut self.process, "sample-app")
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        let stopped = self.process.stop(STOP).await;
        stopped.map(drop).map_err(StrategyError::stop("sample-app"))
    }
}

async fn launch(site: &Site, server: SocketAddr, log: &Path) -> Result<Process, StrategyError> {
    let arguments = ["-port".to_owned(), server.port().to_string()];
    let app = site.artifact();
    let spawned = Process::spawn(site.system(), &app, &arguments, log);
    let mut process = spawned.map_err(StrategyError::spawn(&app))?;
    wait_until_listening(server, &mut process, "sample-app", START).await?;
    Ok(process)
}
