//! The options that name the deployment of a command.

use std::path::PathBuf;

use clap::Args;

/// Which deployment a command is about: as `handoff run` is told.
#[derive(Args, Clone, Debug)]
pub struct DeploymentArgs {
    /// What the sidecars have as --state [default: as for `handoff run`, by the other options or
    /// by what lies here]
    #[arg(long, env = "HANDOFF_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// What they have as --pointer
    #[arg(long, env = "HANDOFF_POINTER", value_name = "FILE")]
    pub(crate) pointer: Option<PathBuf>,

    /// What they have as --watch
    #[arg(long, env = "HANDOFF_WATCH", value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,

    /// What they have as --artifact
    #[arg(long, env = "HANDOFF_ARTIFACT", value_name = "PATH")]
    pub(crate) artifact: Option<PathBuf>,

    /// What they have as --config: it may name the others
    #[arg(long, env = "HANDOFF_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
