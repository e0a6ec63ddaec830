//! The command lines of `handoff status`, `history`, `logs` and `digest`.

use std::path::PathBuf;

use clap::Args;

use super::deployment::DeploymentArgs;

const STATUS_EXIT_CODES: &str = "\
Exit codes:
  0  a sidecar is alive
  2  the command line is invalid, or no deployment is found
  4  no sidecar is alive";

const HISTORY_EXIT_CODES: &str = "\
Exit codes:
  0  the launches have been printed
  2  the command line is invalid, or no deployment is found
  4  no sidecar has published a status";

const LOGS_EXIT_CODES: &str = "\
Exit codes:
  0  the log has been printed
  1  there is no log file, or it cannot be read
  2  the command line is invalid, or no deployment is found
  4  no sidecar has published a status";

const DIGEST_EXIT_CODES: &str = "\
Exit codes:
  0  the digest has been printed
  1  the artifact cannot be read
  2  the command line is invalid";

/// Show the sidecars: the active and draining releases, their age, and the last failure.
#[derive(Args, Clone, Debug)]
#[command(after_help = STATUS_EXIT_CODES)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Show the status again every second, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,

    /// Print the published status as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the launches of the sidecars, and their outcomes.
///
/// Each sidecar publishes its last fifty launches. Those of a sidecar that was killed stay readable.
#[derive(Args, Clone, Debug)]
#[command(after_help = HISTORY_EXIT_CODES)]
pub struct HistoryArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Print the launches as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the log files of the live sidecars, else of the one that lived last.
///
/// A sidecar has a log file in its state folder, or where --log-file says. Full files, which have a
/// number in their names, are read too.
#[derive(Args, Clone, Debug)]
#[command(after_help = LOGS_EXIT_CODES)]
pub struct LogsArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Print new lines until Ctrl-C, also those of sidecars that start later
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Number of existing lines to print first
    #[arg(long, default_value_t = 100)]
    pub(crate) lines: usize,

    /// Print each line as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the SHA-256 of an artifact, for `sha256=` in a pointer file.
#[derive(Args, Clone, Debug)]
#[command(after_help = DIGEST_EXIT_CODES)]
pub struct DigestArgs {
    /// File, folder or archive
    pub(crate) path: PathBuf,

    /// Print the digest as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
