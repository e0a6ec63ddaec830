//! The way of the article of 2015: the app watches its folder and ends itself, and the simulated
//! platform starts the next one when a request comes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::deploy::release::Release;
use crate::deploy::swap::{Swap, unix_ms};
use crate::deploy::{Strategy, StrategyError, check_running};
use crate::generator::client::is_serving;
use crate::host::process::Process;
use crate::host::system::System;

/// Maximum time for the platform to print its address, and for the first release to answer.
const START: Duration = Duration::from_secs(30);

/// Maximum time for the platform to end the app.
const STOP: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Name in errors.
const PLATFORM: &str = "the platform";

/// The platform with the article's launcher.
#[derive(Debug)]
pub struct Article {
    process: Process,
    server: SocketAddr,
    /// Root of the site.
    root: PathBuf,
}

impl Article {
    /// Starts the platform, deploys the first release and waits until it answers.
    pub async fn start(
        platform: &Path,
        launcher: &Path,
        first: &Release,
        log: &Path,
    ) -> Result<Self, StrategyError> {
        let spawned = Process::spawn(&System::Native, platform, &[launcher], log);
        let process = spawned.map_err(StrategyError::spawn(platform))?;
        let mut article = Self {
            process,
            server: SocketAddr::from(([0, 0, 0, 0], 0)),
            root: PathBuf::new(),
        };
        let deadline = Instant::now() + START;
        let mut last = "nothing".to_owned();
        while Instant::now() < deadline {
            check_running(&mut article.process, PLATFORM)?;
            if article.root.as_os_str().is_empty() {
                let said = fs::read_to_string(log).unwrap_or_default();
                if let Some((server, root)) = parse_first_line(&said) {
                    (article.server, article.root) = (server, root);
                    article.put(first).map_err(StrategyError::deploy(first))?;
                }
            } else if is_serving(article.server, "/version").await {
                return Ok(article);
            } else {
                last = "no answer of status 200".to_owned();
            }
            sleep(POLL).await;
        }
        Err(StrategyError::NotServing {
            program: "the article's app",
            within: START,
            last,
        })
    }

    /// Writes a release in the order that suits the article best: the pointer first, and the file as a
    /// whole, so that no part of it is run and the old app is not started again.
    fn put(&self, release: &Release) -> io::Result<()> {
        let whole = self.root.join(release.name());
        fs::copy(&release.file, &whole)?;
        fs::write(self.root.join("_artifact.txt"), release.name())?;
        fs::rename(whole, self.root.join("_target").join(release.name()))
    }
}

impl Strategy for Article {
    fn server(&self) -> SocketAddr {
        self.server
    }

    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError> {
        swap.written_ms = unix_ms();
        swap.phases.detected_ms = Some(0);
        self.put(release).map_err(StrategyError::deploy(release))
    }

    /// Notes the swap as over when it is seen: the old app ends before the new one starts.
    fn observe(&mut self, swaps: &mut [Swap]) -> Result<(), StrategyError> {
        for swap in swaps {
            swap.phases.promoted_ms = swap.seen_ms;
            swap.phases.stopped_ms = swap.seen_ms;
        }
        check_running(&mut self.process, PLATFORM)
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        let stopped = self.process.stop(STOP).await;
        stopped.map(drop).map_err(StrategyError::stop(PLATFORM))
    }
}

/// Parses the platform's first line: its address and the root of the site.
fn parse_first_line(said: &str) -> Option<(SocketAddr, PathBuf)> {
    let (line, _) = said.split_once('\n')?;
    let (server, root) = line.split_once(' ')?;
    Some((server.parse().ok()?, root.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_says_where_it_is() {
        let said = "127.0.0.1:81 /tmp/a b/wwwroot\nmore\n";
        let expected = (([127, 0, 0, 1], 81).into(), "/tmp/a b/wwwroot".into());
        assert_eq!(parse_first_line(said), Some(expected));
        assert_eq!(
            parse_first_line("127.0.0.1:81 /tmp/a b/www"),
            None,
            "half a line"
        );
    }
}
