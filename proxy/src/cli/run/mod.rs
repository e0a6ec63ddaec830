//! The command line of `handoff run`: a group of options for each help heading.
//!
//! An option is written once, as a field of its group. Its variable follows from its name, and
//! [`handoff.toml`](super::handoff_toml) takes it without further ado.

use std::path::PathBuf;

use clap::{Arg, Args};

use super::origins::Origins;

mod anchoring;
mod artifacts;
mod instances;
mod observing;
mod reloadable;
mod traffic;

pub use anchoring::AnchorOptions;
pub use artifacts::{
    ArchiveOptions, AssetOptions, DetectionOptions, SourceOptions, StorageOptions,
};
pub use instances::{
    AppOptions, AutoRollback, DrainOptions, LivenessOptions, Overlap, ReadinessOptions,
};
pub use observing::{LogOptions, ObservabilityOptions};
pub use reloadable::ReloadableOptions;
pub use traffic::{
    AppProtocolOption, ClientOptions, HoldOptions, ResponseOptions, SessionOptions,
    ShutdownOptions, Switch, UpstreamOptions,
};

/// Prefix of the environment variables of options.
pub(super) const VARIABLE_PREFIX: &str = "HANDOFF_";

/// Run an app behind handoff.
///
/// Every option can also be set in the environment: `--drain-timeout` is HANDOFF_DRAIN_TIMEOUT; and
/// in a configuration file (--config): `drain-timeout = "5m"`.
/// A DURATION is written as `250ms`, `30s` or `5m`; a SIZE in bytes, or as `64KiB`, `500MiB` or
/// `4GiB`.
#[derive(Args, Clone, Debug)]
#[command(
    mut_args(with_variable),
    after_help = "\
Exit codes:
  0  handoff has shut down as requested (SIGTERM, Ctrl-C, service manager, IIS)
  1  handoff cannot run: the port is taken, a folder cannot be used
  2  the command line or the configuration file is invalid"
)]
pub struct Run {
    /// Configuration file [default: handoff.toml beside the pointer file, the watched folder or the
    /// artifact; else in the working directory]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub source: SourceOptions,

    #[command(flatten)]
    pub app: AppOptions,

    #[command(flatten)]
    pub clients: ClientOptions,

    #[command(flatten)]
    pub upstream: UpstreamOptions,

    #[command(flatten)]
    pub hold: HoldOptions,

    #[command(flatten)]
    pub sessions: SessionOptions,

    #[command(flatten)]
    pub responses: ResponseOptions,

    #[command(flatten)]
    pub reloadable: ReloadableOptions,

    #[command(flatten)]
    pub log: LogOptions,

    #[command(flatten)]
    pub observability: ObservabilityOptions,

    #[command(flatten)]
    pub shutdown: ShutdownOptions,

    #[command(flatten)]
    pub anchor: AnchorOptions,

    #[command(flatten)]
    pub storage: StorageOptions,

    #[command(flatten)]
    pub detection: DetectionOptions,

    #[command(flatten)]
    pub archives: ArchiveOptions,

    #[command(flatten)]
    pub assets: AssetOptions,

    /// Origin of each value.
    #[arg(skip)]
    pub origins: Origins,
}

/// Derives an option's variable from its name. The help states the rule once.
fn with_variable(option: Arg) -> Arg {
    match option.get_long() {
        Some(name) => {
            let variable = format!("{VARIABLE_PREFIX}{}", name.replace('-', "_").to_uppercase());
            option.env(variable).hide_env(true)
        }
        None => option,
    }
}
