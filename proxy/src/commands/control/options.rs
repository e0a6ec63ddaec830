//! The command lines of `handoff rollback`, `restart`, `pause` and `resume`.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

use crate::commands::place::Where;

const EXIT_CODES: &str = "\
Exit codes:
  0  every live sidecar has done it
  1  a sidecar refused it or failed, or it could not be asked for; the others have done it
  2  the command line makes no sense
  3  not within --timeout
  4  no sidecar runs there";

const PAUSE_EXIT_CODES: &str = "\
Exit codes:
  0  every live sidecar is paused, and no request is in flight (tunnels may be)
  1  it could not be asked for, or somebody else ended it
  2  the command line makes no sense
  3  not in time; all is resumed
  4  no sidecar runs there";

/// Go back to an earlier release, at once where it still drains or is on standby.
///
/// What is left is refused until it is deployed again, or its content changes; the pointer file
/// stays as it is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Rollback {
    /// Its name, as `handoff history` shows it, with or without the digits at its end; or its
    /// digest [default: the one that served before]
    pub(super) release: Option<String>,

    #[command(flatten)]
    pub(super) follow: Follow,
}

/// Hand off to a new instance of the release that serves.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Restart {
    #[command(flatten)]
    pub(super) follow: Follow,
}

/// Hold new requests, and wait until the others have ended.
///
/// Each sidecar ends the pause after --max by its own clock, whatever becomes of this command.
#[derive(Args, Clone, Debug)]
#[command(after_help = PAUSE_EXIT_CODES)]
pub struct Pause {
    /// The pause ends after so long, unless `handoff resume` ends it before
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub(super) max: Duration,

    /// For the requests in flight to end; else all is resumed [default: --max]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) timeout: Option<Duration>,

    #[command(flatten)]
    pub(super) place: Where,

    /// Print the outcome as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// End a pause.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Resume {
    #[command(flatten)]
    pub(super) follow: Follow,
}

/// Where they are, and how long to wait for them.
#[derive(Args, Clone, Debug)]
pub struct Follow {
    #[command(flatten)]
    pub(super) place: Where,

    /// For all sidecars to have done it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub(super) timeout: Duration,

    /// Print the outcome as JSON
    #[arg(long)]
    pub(super) json: bool,
}
