//! The command lines of `handoff rollback`, `restart`, `pause`, `resume` and `maintenance`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::deployment::DeploymentArgs;
use super::values::{Duration, parse_network};

const EXIT_CODES: &str = "\
Exit codes:
  0  every live sidecar has carried out the command
  1  a sidecar has refused the command or failed, or the command could not be written; the other
     sidecars have carried it out
  2  the command line is invalid, or no deployment is found
  3  --timeout is over before every live sidecar has carried out the command
  4  no sidecar runs";

const PAUSE_EXIT_CODES: &str = "\
Exit codes:
  0  every live sidecar is paused, and no request is in flight (upgraded connections may be)
  1  the pause could not be written, or another command has ended it
  2  the command line is invalid, or no deployment is found
  3  --timeout is over before all requests in flight have ended; every sidecar is resumed
  4  no sidecar runs";

/// Let the staged release serve.
///
/// It has been deployed with `handoff deploy --stage`. One that is not ready yet serves as soon as it
/// is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct PromoteArgs {
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// Give up the staged release.
///
/// It is refused until it is deployed again. The pointer file stays as it is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct AbortArgs {
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// Return to an earlier release, at once if it still drains or is on standby.
///
/// The release that served is refused until it is deployed again, or its content changes. The
/// pointer file stays as it is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct RollbackArgs {
    /// Release to return to: its name as `handoff history` shows it, with or without the digits at
    /// its end, or its digest [default: the release that served before]
    pub(crate) release: Option<String>,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// Hand off to a new instance of the active release.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct RestartArgs {
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// Hold new requests, and wait until those in flight have ended.
///
/// Each sidecar ends the pause after --max by its own clock, even if this command is killed.
#[derive(Args, Clone, Debug)]
#[command(after_help = PAUSE_EXIT_CODES)]
pub struct PauseArgs {
    /// Maximum time of the pause; `handoff resume` ends it earlier
    #[arg(long, default_value = "30s")]
    pub(crate) max: Duration,

    /// Maximum time for the requests in flight to end; then every sidecar is resumed [default: as
    /// --max]
    #[arg(long)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Print the outcome as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// End a pause: forward held and new requests.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// Refuse new requests with 503 at once, or end that.
///
/// Requests in flight end as they would. Deploys go on behind it, and a restart of handoff does not
/// end it. Browsers get maintenance.html of --error-pages.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct MaintenanceArgs {
    /// Begin or end the maintenance
    pub(crate) switch: MaintenanceSwitch,

    /// Text for the clients, with `on`
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Network of clients whose requests are forwarded all the same, with `on`; can be repeated, or
    /// separated by commas
    ///
    /// Behind trusted proxies (--trusted-proxies), the address in X-Forwarded-For counts.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_network)]
    pub(crate) allow: Vec<IpNet>,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// Replace handoff itself by another version, while the app and all connections go on (Linux).
///
/// The sidecars have to run with --anchor on. Each starts the program beside itself, and hands over
/// when that has read its configuration; requests in flight, WebSockets and event streams stay with the
/// version before until they end, at most for --drain-timeout and --tunnel-drain-timeout. A version
/// that cannot go on changes nothing. The anchor itself stays as it is until handoff is restarted.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct UpgradeArgs {
    /// Program of the other version; root or the user of handoff owns it, and nobody else may write it
    /// [default: the program that runs this command]
    pub(crate) program: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// The two ends of a maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaintenanceSwitch {
    /// Begin it, or change its message and networks.
    On,
    /// End it.
    Off,
}

/// Options of the commands that follow the sidecars.
#[derive(Args, Clone, Debug)]
pub struct FollowArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Maximum time for all sidecars to carry out the command
    #[arg(long, default_value = "5m")]
    pub(crate) timeout: Duration,

    /// Print the outcome as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
