//! handoff in front of sample-app: releases are deployed to its site, and its status file is read.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handoff::deployment::status::Status;

use super::release::Release;
use super::site::Site;
use super::status;
use super::swap::{Swap, unix_ms};
use super::{POLL, Strategy, StrategyError, check_running};
use crate::host::process::Process;
use crate::host::system::System;

/// Maximum time for a release to serve.
const START: Duration = Duration::from_secs(60);

/// Maximum time of a shutdown: longer than handoff's own limit.
const STOP: Duration = Duration::from_secs(60);

/// A running handoff.
#[derive(Debug)]
pub struct Handoff {
    process: Process,
    site: Site,
    sidecars: PathBuf,
    server: SocketAddr,
}

impl Handoff {
    /// Deploys the first release and waits until it serves. State and cache go to `folder`; `options`
    /// are further ones of handoff, and `command` is the app's command line after `--`.
    pub async fn start(
        options: &[&str],
        binary: &Path,
        site: Site,
        first: &Release,
        command: &[OsString],
        folder: &Path,
        log: &Path,
    ) -> Result<Self, StrategyError> {
        site.deploy(first).map_err(StrategyError::deploy(first))?;
        let state = folder.join("state");
        let mut arguments: Vec<OsString> =
            vec!["run".into(), "--listen".into(), "127.0.0.1:0".into()];
        arguments.extend(site.source());
        let system = site.system();
        arguments.extend(["--state".into(), system.path(&state)]);
        arguments.extend(["--cache".into(), system.path(&folder.join("cache"))]);
        arguments.extend(options.iter().map(OsString::from));
        // Wine never delivers Ctrl-Break, so the app is asked in another way there.
        let by_stdin = matches!(system, System::Wine(_));
        if by_stdin {
            arguments.extend(["--stop", "stdin"].map(Into::into));
        }
        arguments.push("--".into());
        arguments.extend_from_slice(command);
        if by_stdin {
            arguments.push("--stop-at-stdin-end".into());
        }
        let mut process = Process::spawn(system, binary, &arguments, log)
            .map_err(StrategyError::spawn(binary))?;

        let sidecars = state.join("sidecars");
        let server = wait_until_serving(&mut process, &sidecars, first).await?;
        Ok(Self {
            process,
            site,
            sidecars,
            server,
        })
    }
}

#[cfg(target_os = "linux")]
impl Handoff {
    /// Returns its process id; none once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Waits until `release` serves.
    pub async fn wait_until_serving(&mut self, release: &Release) -> Result<(), StrategyError> {
        wait_until_serving(&mut self.process, &self.sidecars, release)
            .await
            .map(drop)
    }
}

impl Strategy for Handoff {
    fn server(&self) -> SocketAddr {
        self.server
    }

    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError> {
        swap.written_ms = unix_ms();
        self.site
            .deploy(release)
            .map_err(StrategyError::deploy(release))
    }

    fn observe(&mut self, swaps: &mut [Swap]) -> Result<(), StrategyError> {
        check_running(&mut self.process, "handoff")?;
        // On Windows a status that is being replaced may be unreadable for a moment. If it stays
        // so, the swaps stay unfinished, and the report says that.
        if let Ok(Some(status)) = status::read(&self.sidecars) {
            status::note_steps(&status, swaps);
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        let status = self
            .process
            .stop(STOP)
            .await
            .map_err(StrategyError::stop("handoff"))?;
        // On other systems it is killed.
        let is_asked = cfg!(unix) && *self.site.system() == System::Native;
        if is_asked && !status.success() {
            return Err(StrategyError::Stop {
                program: "handoff",
                how: status.to_string(),
            });
        }
        Ok(())
    }
}

async fn wait_until_serving(
    process: &mut Process,
    sidecars: &Path,
    release: &Release,
) -> Result<SocketAddr, StrategyError> {
    let deadline = Instant::now() + START;
    let digest = format!("sha256:{}", release.sha256);
    loop {
        check_running(process, "handoff")?;
        let status = status::read(sidecars);
        if let Ok(Some(Status {
            active: Some(active),
            listen,
            ..
        })) = &status
            && active.digest == digest
        {
            return Ok(*listen);
        }
        if Instant::now() > deadline {
            let last = match status {
                Err(source) => {
                    return Err(StrategyError::Status {
                        folder: sidecars.to_owned(),
                        source,
                    });
                }
                Ok(None) => format!("no status in {}", sidecars.display()),
                Ok(Some(Status {
                    last_failure: Some(failure),
                    ..
                })) => failure.reason,
                Ok(Some(Status {
                    active: Some(active),
                    ..
                })) => format!("active is {}, not {digest}", active.digest),
                Ok(Some(_)) => "nothing is active".to_owned(),
            };
            return Err(StrategyError::NotServing {
                program: "handoff",
                within: START,
                last,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
