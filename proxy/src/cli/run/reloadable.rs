//! Options that are reloaded while handoff runs.

use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::filter::LevelFilter;

use super::{DrainOptions, LivenessOptions, ReadinessOptions};

/// Options whose changes in the configuration file take effect without a restart of handoff.
///
/// This is the only list of them: an option is reloaded because it is in here.
#[derive(Args, Clone, Debug)]
pub struct ReloadableOptions {
    /// File with variables for the app, a line NAME=VALUE for each
    ///
    /// A change is a handoff to a new instance.
    #[arg(long, value_name = "FILE", help_heading = "App")]
    pub env_file: Option<PathBuf>,

    #[command(flatten)]
    pub readiness: ReadinessOptions,

    #[command(flatten)]
    pub liveness: LivenessOptions,

    #[command(flatten)]
    pub drain: DrainOptions,

    /// Least severe level that is logged: off, error, warn, info, debug or trace
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Log"
    )]
    pub log_level: LevelFilter,
}

// === impl ReloadableOptions ===

impl ReloadableOptions {
    /// Returns the keys of the options in `handoff.toml`.
    pub fn keys() -> Vec<String> {
        let command = Self::augment_args(clap::Command::new("run"));
        let names = command.get_opts().filter_map(|option| option.get_long());
        names.map(str::to_owned).collect()
    }
}
