//! Files that say more than the command line.

use std::path::PathBuf;

use clap::Args;

/// Where options and variables come from.
#[derive(Args, Clone, Debug)]
pub struct Files {
    /// Read options from this file, too [default: handoff.toml beside the pointer, the watched
    /// folder or the artifact; where none of them is given, here]
    #[arg(long, env = "HANDOFF_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Variables for the app, a line NAME=VALUE for each. A change is a handoff to a new instance
    #[arg(
        long,
        env = "HANDOFF_ENV_FILE",
        value_name = "FILE",
        help_heading = "What to run"
    )]
    pub env_file: Option<PathBuf>,
}
