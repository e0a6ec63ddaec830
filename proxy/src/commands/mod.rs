//! The commands of operators and deploy scripts to running sidecars.
//!
//! The folder is the API: commands write the pointer, artifacts and `<state>/desired.json`, and
//! read the status of each sidecar in `<state>/sidecars/<id>.json`. They reach sidecars in no other
//! way, so they also work from another container or sandbox, and for several sidecars on one
//! folder.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use self::deployment_paths::UnknownDeployment;
use self::sidecars::Sidecars;
use crate::cli::output::eprint_line;

mod canary;
pub mod check;
pub mod control;
pub mod deploy;
mod deployment_paths;
pub mod digest;
mod follow;
pub mod history;
pub mod logs;
pub mod maintenance;
mod progress;
pub mod rollout;
pub mod sidecars;
pub mod status;
mod table;
pub mod upgrade;

/// A hint for messages about missing sidecars.
const ELSEWHERE: &str = "if they have another --state, give it here too";

/// The result of a command: its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// The command succeeded.
    Done = 0,
    /// The command was refused, or could not be executed.
    Refused = 1,
    /// The command line is invalid.
    Usage = 2,
    /// The result did not come in time.
    Timeout = 3,
    /// There is no live sidecar.
    Idle = 4,
}

/// Returns the exit status of a command, after printing an error about its deployment.
fn exit_status_of(ended: Result<ExitStatus, UnknownDeployment>) -> ExitStatus {
    ended.unwrap_or_else(|error| {
        eprint_line(format_args!("handoff: {error}"));
        ExitStatus::Usage
    })
}

/// Returns the id of the live sidecar of a deployment that has this public address.
pub fn sidecar_on(state: &Path, address: SocketAddr) -> Option<Arc<str>> {
    let mut sidecars = Sidecars::of(state);
    sidecars.refresh();
    let mut live = sidecars.live();
    live.find(|status| status.listen == address)
        .map(|status| Arc::clone(&status.sidecar))
}

/// Returns a number with its noun: `1 sidecar`, `2 sidecars`.
fn count(n: usize, word: &str) -> String {
    match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(exit_status: ExitStatus) -> Self {
        Self::from(exit_status as u8)
    }
}
