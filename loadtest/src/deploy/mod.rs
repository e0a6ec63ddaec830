//! Ways to deploy releases: the server under test, and how it is given the next release.

pub mod handoff;
pub mod hook;
pub mod release;
pub mod restart;
pub mod site;
pub mod startup;
mod status;
pub mod swap;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use self::release::Release;
use self::swap::Swap;
use crate::host::process::Process;

/// Interval at which facts are polled.
const POLL: Duration = Duration::from_millis(2);

/// A server that can be given the next release.
#[expect(
    async_fn_in_trait,
    reason = "one thread runs it, so that its futures need not be Send"
)]
pub trait Strategy {
    /// Returns the address to which clients send requests.
    fn server(&self) -> SocketAddr;

    /// Deploys a release. Notes the time in `swap`, and the steps that are known by then.
    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError>;

    /// Notes the steps that the swaps have taken since.
    fn observe(&mut self, swaps: &mut [Swap]) -> Result<(), StrategyError>;

    /// Ends every process that this started.
    async fn stop(&mut self) -> Result<(), StrategyError>;
}

/// An error that fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum StrategyError {
    #[error("start {program}: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("go on: {program} ended by itself ({status})")]
    Ended {
        program: &'static str,
        status: ExitStatus,
    },
    #[error("see {program} serve the release within {within:?}; last seen: {last}")]
    NotServing {
        program: &'static str,
        within: Duration,
        last: String,
    },
    #[error("stop {program} cleanly: {how}")]
    Stop { program: &'static str, how: String },
    #[error("deploy {release}: {source}")]
    Deploy { release: String, source: io::Error },
    #[error("deploy {release}: `{command}` {how}")]
    Command {
        release: String,
        command: String,
        how: String,
    },
    #[error("read the status in {folder}: {source}")]
    Status { folder: PathBuf, source: io::Error },
    #[error("find a free port: {0}")]
    Port(io::Error),
}

/// Checks that a process is still running.
pub fn check_running(process: &mut Process, program: &'static str) -> Result<(), StrategyError> {
    match process.exited() {
        Ok(Some(status)) => Err(StrategyError::Ended { program, status }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Waits until `server` accepts connections.
pub async fn wait_until_listening(
    server: SocketAddr,
    process: &mut Process,
    program: &'static str,
    within: Duration,
) -> Result<(), StrategyError> {
    let deadline = Instant::now() + within;
    loop {
        check_running(process, program)?;
        match TcpStream::connect(server).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(StrategyError::NotServing {
                    program,
                    within,
                    last: error.to_string(),
                });
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Returns an address of this machine whose port is free now.
pub async fn free_address() -> Result<SocketAddr, StrategyError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(StrategyError::Port)
}

impl StrategyError {
    pub fn spawn(program: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Spawn {
            program: program.to_owned(),
            source,
        }
    }

    pub fn deploy(release: &Release) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Deploy {
            release: release.name(),
            source,
        }
    }

    pub fn stop(program: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stop {
            program,
            how: source.to_string(),
        }
    }
}
