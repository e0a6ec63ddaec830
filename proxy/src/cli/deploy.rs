//! The command line of `handoff deploy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use humantime::parse_duration;

const EXIT_CODES: &str = "\
Exit codes:
  0  every live sidecar reports it active
  1  a sidecar refused it, or it could not be put there; what was deployed before is again
  2  the command line makes no sense
  3  not within --timeout; it stays deployed
  4  no sidecar runs there; it stays deployed, for the next start";

/// Deploy an artifact and wait until it serves.
///
/// Copies ARTIFACT under a name of its own beside the others, writes the pointer file, and follows
/// every sidecar. If one refuses it, says why, and puts back what was deployed before.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct DeployArgs {
    /// A file, a folder or an archive
    pub(crate) artifact: PathBuf,

    /// The pointer file to write; artifacts go into `releases` (or `_target`) beside it, or into
    /// --to [default: _artifact.txt here, if it exists]
    #[arg(long, env = "HANDOFF_POINTER", value_name = "FILE")]
    pub(crate) pointer: Option<PathBuf>,

    /// The folder to put the artifact in; without --pointer, the one that the sidecars --watch
    /// [default: releases or _target here, if it exists]
    #[arg(long, env = "HANDOFF_WATCH", value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,

    /// What the sidecars have as --state; without the two above, its sidecars say where to deploy
    #[arg(long, env = "HANDOFF_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// What the sidecars have as --config: it may name the three above
    #[arg(long, env = "HANDOFF_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// For all sidecars to report it active
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,

    /// What to wait for: that it has the requests, or also that those to the release before have
    /// ended
    #[arg(long, value_enum, default_value = "promoted")]
    pub(crate) wait: Wait,

    /// When no sidecar runs: exit with 4 or with 0
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) if_idle: IfIdle,

    /// When no sidecar runs: request this first, until one does (needs curl)
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) wake: Option<String>,

    /// How many deployed artifacts stay in the folder, beside those in use
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) keep: usize,

    /// The release's name [default: the artifact's, and the start of its digest]
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// Print the outcome as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// It has the requests.
    Promoted,
    /// And nothing is in flight to what was superseded.
    Drained,
}

/// What it means that nobody runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfIdle {
    /// Exit code 4.
    Fail,
    /// Exit code 0.
    Accept,
}

fn http_url(text: &str) -> Result<String, &'static str> {
    let is_http = ["http://", "https://"].iter().any(|s| text.starts_with(s));
    match is_http {
        true => Ok(text.to_owned()),
        false => Err("expected a URL that starts with http:// or https://"),
    }
}
