//! What an operator or a deploy script asks of running sidecars.
//!
//! The folder is the API: commands write the pointer, artifacts and `<state>/desired.json`, and
//! read what each sidecar publishes in `<state>/sidecars/<id>.json`. They reach no sidecar in any
//! other way, so they work from another container or another sandbox, and for several sidecars on
//! one folder.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use self::place::PlaceError;
use self::say::tell;
use self::sidecars::Sidecars;

pub mod control;
pub mod deploy;
pub mod digest;
mod follow;
pub mod history;
pub mod logs;
mod place;
mod progress;
pub mod say;
mod sidecars;
pub mod status;
mod table;

/// What may be wrong when nobody is found.
const ELSEWHERE: &str = "if they have another --state, give it here too";

/// How a command ends: its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// What was asked for is so.
    Done = 0,
    /// It was refused, or could not be done.
    Refused = 1,
    /// It makes no sense.
    Usage = 2,
    /// It did not happen in time.
    Timeout = 3,
    /// No sidecar runs there.
    Idle = 4,
}

/// How a command ended that may not know where it should look; then it says so.
fn told(ended: Result<Ending, PlaceError>) -> Ending {
    ended.unwrap_or_else(|error| {
        tell(format_args!("handoff: {error}"));
        Ending::Usage
    })
}

/// The live sidecar of a deployment that has this public address.
pub fn sidecar_on(state: &Path, address: SocketAddr) -> Option<Arc<str>> {
    let mut sidecars = Sidecars::of(state);
    sidecars.look();
    let mut live = sidecars.live();
    live.find(|status| status.listen == address)
        .map(|status| Arc::clone(&status.sidecar))
}

/// `1 sidecar`, `2 sidecars`
fn count(n: usize, word: &str) -> String {
    match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending as u8)
    }
}
