//! The command lines of `handoff status`, `history`, `logs` and `digest`.

use std::path::PathBuf;

use clap::Args;

use super::deployment::DeploymentArgs;

const STATUS_EXIT_CODES: &str = "\
Exit codes:
  0  a sidecar lives
  2  the command line makes no sense
  4  none does";

const HISTORY_EXIT_CODES: &str = "\
Exit codes:
  0  shown
  2  the command line makes no sense
  4  no sidecar has published anything";

const LOGS_EXIT_CODES: &str = "\
Exit codes:
  0  shown
  1  there is no log file, or it cannot be read
  2  the command line makes no sense
  4  no sidecar has published anything";

const DIGEST_EXIT_CODES: &str = "\
Exit codes:
  0  printed
  1  it cannot be read
  2  the command line makes no sense";

/// Show what the sidecars run, since when, what drains, and why the last one failed.
#[derive(Args, Clone, Debug)]
#[command(after_help = STATUS_EXIT_CODES)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Go on showing it (until Ctrl-C)
    #[arg(long)]
    pub(crate) watch: bool,

    /// Print what they publish, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show every launch that the sidecars remember, and what became of it.
///
/// Each remembers its own last fifty, for as long as it lives; and of one that was killed they stay.
#[derive(Args, Clone, Debug)]
#[command(after_help = HISTORY_EXIT_CODES)]
pub struct HistoryArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the log files of the sidecars that live, or else of the one that lived last.
///
/// They have one only with --log-file, and on Azure App Service. Full files, which have a number in
/// their names, are read too.
#[derive(Args, Clone, Debug)]
#[command(after_help = LOGS_EXIT_CODES)]
pub struct LogsArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,

    /// Go on showing them (until Ctrl-C), also those of sidecars that come later
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// So many lines of what is there already
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,

    /// Print each line as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the SHA-256 of a file, a folder or an archive, as `sha256=` in a pointer file takes it.
#[derive(Args, Clone, Debug)]
#[command(after_help = DIGEST_EXIT_CODES)]
pub struct DigestArgs {
    /// The artifact
    pub(crate) path: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
