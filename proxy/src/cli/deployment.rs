//! The options that name the deployment of a command.

use std::path::PathBuf;

use clap::Args;

use crate::os::rights::Rights;

/// The options that name a deployment, as for `handoff run`.
#[derive(Args, Clone, Debug)]
pub struct DeploymentArgs {
    /// State folder of the sidecars: their --state [default: as for `handoff run`, from the other
    /// options or the files in the working directory]
    #[arg(long, env = "HANDOFF_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// Pointer file of the sidecars: their --pointer
    #[arg(long, env = "HANDOFF_POINTER", value_name = "FILE")]
    pub(crate) pointer: Option<PathBuf>,

    /// Folder of artifacts that the sidecars watch: their --watch
    #[arg(long, env = "HANDOFF_WATCH", value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,

    /// Artifact that the sidecars run in place: their --artifact
    #[arg(long, env = "HANDOFF_ARTIFACT", value_name = "PATH")]
    pub(crate) artifact: Option<PathBuf>,

    /// Configuration file of the sidecars: their --config; it may contain the other paths
    #[arg(long, env = "HANDOFF_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Rights over the paths, if the configuration file of another user names them.
    #[arg(skip)]
    pub(crate) named_by: Rights,
}
