//! Ways to swap releases: the process under test, and how it is told of the next release.

mod handoff;
pub mod hook;
mod restart;
mod status;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

pub use self::handoff::Handoff;
pub use self::hook::Hook;
pub use self::restart::Restart;
use crate::process::Process;
use crate::release::Release;
use crate::scenario::Swap;

/// How often a fact is asked for that nobody announces.
const POLL: Duration = Duration::from_millis(2);

/// Something that serves releases and can be given the next one.
pub trait Strategy {
    /// Where clients send their requests.
    fn server(&self) -> SocketAddr;

    /// Deploys a release, and notes in `swap` when, and what came of it as far as it is known.
    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError>;

    /// Notes what has become of the swaps since.
    fn observe(&mut self, swaps: &mut [Swap]) -> Result<(), StrategyError>;

    /// Ends every process that this started.
    async fn stop(&mut self) -> Result<(), StrategyError>;
}

/// Fits "failed to {…}".
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

/// # Errors
/// It ended by itself.
pub fn still_running(process: &mut Process, program: &'static str) -> Result<(), StrategyError> {
    match process.exited() {
        Ok(Some(status)) => Err(StrategyError::Ended { program, status }),
        Ok(None) | Err(_) => Ok(()),
    }
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
