//! The command line of `handoff deploy`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::Duration;
use crate::deployment::canary::CanaryPlan;
use crate::deployment::rollout::AtMost;
use crate::os::rights::Rights;

const EXIT_CODES: &str = "\
Exit codes:
  0  every live sidecar reports the release as active, or with --stage as staged
  1  a sidecar has refused the release, or it could not be copied; the previous one is deployed again
  2  the command line is invalid, or no deployment is found
  3  --timeout is over before every live sidecar reports the release as active; it stays deployed
  4  no sidecar runs; the release stays deployed, for the next start";

/// Deploy an artifact and wait until it serves.
///
/// Copies ARTIFACT under a new name beside the other artifacts, writes the pointer file, and follows
/// every sidecar. If one refuses the release, prints the reason, and puts back what was deployed
/// before. With --artifact, replaces that file or folder instead.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct DeployArgs {
    /// File, folder or archive to deploy
    pub(crate) artifact: PathBuf,

    /// Pointer file to write; the artifact is copied into `releases` (or `_target`) beside it, or
    /// into --to [default: _artifact.txt in the working directory, if it exists]
    #[arg(long, env = "HANDOFF_POINTER", value_name = "FILE")]
    pub(crate) pointer: Option<PathBuf>,

    /// Folder to copy the artifact into; without --pointer, the folder that the sidecars --watch
    /// [default: releases or _target in the working directory, if it exists]
    #[arg(long, env = "HANDOFF_WATCH", value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,

    /// Artifact to replace, in one step, if the sidecars run it in place: their --artifact
    #[arg(long = "artifact", env = "HANDOFF_ARTIFACT", value_name = "PATH")]
    pub(crate) in_place: Option<PathBuf>,

    /// State folder of the sidecars: their --state; without --pointer and --to, these sidecars'
    /// status names the place to deploy to
    #[arg(long, env = "HANDOFF_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// Configuration file of the sidecars: their --config; it may contain the other paths
    #[arg(long, env = "HANDOFF_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Rights over the paths, if the configuration file of another user names them.
    #[arg(skip)]
    pub(crate) named_by: Rights,

    /// Maximum time for all sidecars to report the release as active
    #[arg(long, default_value = "5m")]
    pub(crate) timeout: Duration,

    /// Maximum number of sidecars, or share of them (25%), that start the release at the same time: a
    /// staged roll-out. Needs a pointer file. --timeout is the time for each group. `handoff rollout`
    /// shows, stops and continues it
    #[arg(long, value_name = "N|P%", conflicts_with = "stage")]
    pub(crate) at_most: Option<AtMost>,

    /// Number of sidecars that run the release before all others
    #[arg(long, value_name = "N", default_value_t = 0, requires = "at_most")]
    pub(crate) first: usize,

    /// Time for which the --first sidecars run the release before the others start it
    #[arg(long, default_value = "0s", requires = "at_most")]
    pub(crate) bake: Duration,

    /// Number of sidecars that may refuse the release; with more, all return to the one before
    #[arg(long, value_name = "N", default_value_t = 0, requires = "at_most")]
    pub(crate) tolerate: usize,

    /// Stop before the release serves: it waits for `handoff promote` or `handoff abort`, and requests
    /// with the field X-Handoff-Preview and the token that is printed reach it meanwhile
    ///
    /// It serves at once where no other release can.
    #[arg(long)]
    pub(crate) stage: bool,

    /// Stages in which the release gets a share of new clients before it serves everybody, such as
    /// 5%:10m,50%:10m; the sidecars need --sticky
    ///
    /// It is refused when its share of errors is higher than that of the active release for certain.
    /// --timeout is the time beyond that of the stages.
    #[arg(long, value_name = "SHARE:DURATION,...", conflicts_with_all = ["stage", "at_most"])]
    pub(crate) canary: Option<CanaryPlan>,

    /// Maximum time for which the release waits; then it is given up, as by `handoff abort`
    #[arg(long, default_value = "1h", requires = "stage")]
    pub(crate) stage_timeout: Duration,

    /// State of the handoff to wait for
    #[arg(long, value_enum, default_value = "promoted")]
    pub(crate) wait: Wait,

    /// Exit code when no sidecar runs
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) if_idle: IfIdle,

    /// URL to request when no sidecar runs, until one does (needs curl)
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) wake: Option<String>,

    /// Number of deployed artifacts to keep in the folder, in addition to those in use
    #[arg(long, default_value_t = 5)]
    pub(crate) keep: usize,

    /// Name of the release [default: the artifact's name, and the start of its digest]
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// Print the outcome as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A state of the handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// New requests go to the release
    Promoted,
    /// New requests go to the release, and nothing is in flight to the superseded instance
    Drained,
}

/// An outcome without a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfIdle {
    /// Exit with 4
    Fail,
    /// Exit with 0
    Accept,
}

fn http_url(text: &str) -> Result<String, &'static str> {
    let is_http = ["http://", "https://"].iter().any(|s| text.starts_with(s));
    if is_http {
        Ok(text.to_owned())
    } else {
        Err("expected a URL that starts with http:// or https://")
    }
}
