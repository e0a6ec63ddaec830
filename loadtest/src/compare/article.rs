//! The way of the article of 2015: the app watches its folder and ends itself, and the platform,
//! which is simulated, starts the next one when a request comes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::client::Client;
use crate::process::Process;
use crate::release::Release;
use crate::scenario::{Swap, unix_ms};
use crate::strategy::{Strategy, StrategyError, still_running};
use crate::system::System;
use crate::traffic::{Call, Connection, Place, Shot};

/// For the platform to say where it is, and for the first release to answer.
const START: Duration = Duration::from_secs(30);

/// For the platform to end what it runs.
const STOP: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// As errors name it.
const PLATFORM: &str = "the platform";

/// The platform with the article's launcher.
#[derive(Debug)]
pub struct Article {
    process: Process,
    server: SocketAddr,
    /// The site's root.
    root: PathBuf,
}

impl Article {
    /// Starts the platform, deploys the first release and waits until it answers.
    ///
    /// # Errors
    /// One of them does not come in time.
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
            still_running(&mut article.process, PLATFORM)?;
            if article.root.as_os_str().is_empty() {
                let said = fs::read_to_string(log).unwrap_or_default();
                if let Some((server, root)) = place(&said) {
                    (article.server, article.root) = (server, root);
                    article.put(first).map_err(StrategyError::deploy(first))?;
                }
            } else if answers(article.server).await {
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

    /// In the order that is kindest to the article: the pointer first, and the whole file at once,
    /// so that no half of it is run and the old app not started again.
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

    /// The old app has ended before the new one is started.
    fn observe(&mut self, swaps: &mut [Swap]) -> Result<(), StrategyError> {
        for swap in swaps {
            swap.phases.promoted_ms = swap.seen_ms;
            swap.phases.stopped_ms = swap.seen_ms;
        }
        still_running(&mut self.process, PLATFORM)
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        let stopped = self.process.stop(STOP).await;
        stopped.map(drop).map_err(StrategyError::stop(PLATFORM))
    }
}

/// What the platform says in its first line: its address, and the site's root.
fn place(said: &str) -> Option<(SocketAddr, PathBuf)> {
    let (line, _) = said.split_once('\n')?;
    let (server, root) = line.split_once(' ')?;
    Some((server.parse().ok()?, root.into()))
}

async fn answers(server: SocketAddr) -> bool {
    let shot = Shot {
        seq: 0,
        connection: Connection::New,
        call: Call::Version,
    };
    let Ok(mut client) = Client::connect(server).await else {
        return false;
    };
    let answer = client.exchange(&shot.encode(&Place::at(server))).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_says_where_it_is() {
        let said = "127.0.0.1:81 /tmp/a b/wwwroot\nmore\n";
        let expected = (([127, 0, 0, 1], 81).into(), "/tmp/a b/wwwroot".into());
        assert_eq!(place(said), Some(expected));
        assert_eq!(place("127.0.0.1:81 /tmp/a b/www"), None, "half a line");
    }
}
