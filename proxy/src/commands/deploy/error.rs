//! The reasons why nothing was deployed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::commands::ExitStatus;
use crate::commands::deployment_paths::UnknownDeployment;

/// The reason why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeployError {
    #[error(transparent)]
    DeploymentPaths(#[from] UnknownDeployment),
    #[error("an artifact cannot be called {0:?}: give another name with --id NAME")]
    Name(String),
    #[error(
        "{0:?} is not a known kind of archive: pack it as .zip, .tar.gz or .tgz, or deploy the folder"
    )]
    UnsupportedArchive(PathBuf),
    #[error("the sidecars run {0:?} (--artifact), whose name says another format than {1:?}")]
    Format(PathBuf, PathBuf),
    #[error("the release is named after {0:?}, which the sidecars run (--artifact): omit --id")]
    NoName(PathBuf),
    #[error("cannot read {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("nothing is deployed: there is no file in the folder {0:?}")]
    Empty(PathBuf),
    #[error("cannot put it into {path:?}: {source}")]
    Upload { path: PathBuf, source: io::Error },
    #[error(
        "sidecar {0} cannot stage a release: it runs an older version, or its app cannot run twice \
         (--overlap no)"
    )]
    CannotStage(Arc<str>),
    #[error(
        "sidecar {0} cannot give a release a share of new clients: it runs an older version, or \
         without --sticky cookie"
    )]
    CannotCanary(Arc<str>),
    #[error(
        "not every sidecar knows yet that the release is to be staged: nothing was deployed{0}"
    )]
    StageUnknown(String),
    #[error("cannot write the pointer file {path:?}: {source}")]
    Pointer { path: PathBuf, source: io::Error },
    #[error("--at-most needs a pointer file: give --pointer FILE")]
    NoPointer,
    #[error(
        "--at-most: sidecar {0} is handoff {1}, which would start the release at once: upgrade it"
    )]
    OlderSidecar(Arc<str>, String),
    #[error("cannot begin the roll-out in {path:?}: {source}")]
    Rollout { path: PathBuf, source: io::Error },
}

impl DeployError {
    pub(super) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::DeploymentPaths(_)
            | Self::Name(_)
            | Self::Empty(_)
            | Self::UnsupportedArchive(_)
            | Self::Format(..)
            | Self::NoName(_)
            | Self::NoPointer
            | Self::OlderSidecar(..) => ExitStatus::Usage,
            Self::Read { .. }
            | Self::Upload { .. }
            | Self::Pointer { .. }
            | Self::Rollout { .. }
            | Self::CannotStage(_)
            | Self::CannotCanary(_)
            | Self::StageUnknown(_) => ExitStatus::Refused,
        }
    }
}
