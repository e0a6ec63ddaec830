//! The paths of a deployment, from the options of a command.

use std::path::{Path, PathBuf};

use super::sidecars::Sidecars;
use crate::cli::deployment::DeploymentArgs;
use crate::deployment::Source;
use crate::deployment::source::{absolute, drop_folder};
use crate::deployment::status::SourceStatus;

/// The paths to which a deploy writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeploymentPaths {
    /// The pointer file; without it, sidecars run the newest artifact in `uploads`.
    pub(super) pointer: Option<PathBuf>,
    /// Folder for artifacts.
    pub(super) uploads: PathBuf,
    /// State folder, in which sidecars publish their status.
    pub(super) state: PathBuf,
}

/// The reason why a deployment cannot be found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnknownDeployment {
    /// Neither an option nor the working directory names a deployment.
    #[error(
        "which deployment? Give --state DIR, --pointer FILE or --to DIR (or start in a folder with \
         _artifact.txt, releases or _target in it)"
    )]
    Nowhere,
    /// There is no sidecar that has published its options.
    #[error("no sidecar has published where it looks in {0:?}: give --pointer FILE or --to DIR")]
    Untold(PathBuf),
    /// The sidecars run a single file or folder, which a deploy cannot replace.
    #[error(
        "the sidecars run {0:?} itself (--artifact): replace that file, or run them with --pointer \
         or --watch"
    )]
    InPlace(PathBuf),
}

// === impl DeploymentPaths ===

impl DeploymentPaths {
    /// Finds the deployment of these options, which have the meanings that they have for `handoff
    /// run`.
    pub(super) fn find(
        pointer: Option<PathBuf>,
        folder: Option<PathBuf>,
        state: Option<PathBuf>,
    ) -> Result<Self, UnknownDeployment> {
        let [pointer, folder, state] = [pointer, folder, state].map(|path| path.map(absolute));
        let source = match (pointer, folder, &state) {
            (Some(file), folder, _) => Source::Pointer { file, folder },
            (None, Some(folder), _) => Source::Folder(folder),
            (None, None, Some(state)) => published(state)?,
            (None, None, None) => here()?,
        };
        let state = state.unwrap_or_else(|| source.present_state());
        match source {
            Source::Artifact(path) => Err(UnknownDeployment::InPlace(path)),
            Source::Folder(uploads) => Ok(Self {
                pointer: None,
                uploads,
                state,
            }),
            Source::Pointer { file, folder } => Ok(Self {
                uploads: folder.unwrap_or_else(|| uploads_beside(&file)),
                pointer: Some(file),
                state,
            }),
        }
    }
}

// === impl DeploymentArgs ===

impl DeploymentArgs {
    /// Returns the state folder.
    pub(super) fn state(&self) -> Result<PathBuf, UnknownDeployment> {
        let Self {
            state,
            pointer,
            to,
            artifact,
            config: _,
        } = self.clone();
        if let Some(state) = state.map(absolute) {
            return Ok(state);
        }
        let [pointer, to, artifact] = [pointer, to, artifact].map(|path| path.map(absolute));
        let source = match (pointer, to, artifact) {
            (Some(file), folder, _) => Source::Pointer { file, folder },
            (None, Some(folder), _) => Source::Folder(folder),
            (None, None, Some(path)) => Source::Artifact(path),
            (None, None, None) => here()?,
        };
        Ok(source.present_state())
    }
}

/// Returns the conventional source in the working directory.
fn here() -> Result<Source, UnknownDeployment> {
    let here = std::env::current_dir().map_err(|_| UnknownDeployment::Nowhere)?;
    Source::conventional(&here).ok_or(UnknownDeployment::Nowhere)
}

/// Returns the source of the sidecar that wrote its status last.
fn published(state: &Path) -> Result<Source, UnknownDeployment> {
    let mut sidecars = Sidecars::of(state);
    sidecars.refresh();
    let latest = sidecars.all().max_by_key(|status| status.heartbeat_ms);
    let source = latest.map(|status| status.source.clone());
    match source.unwrap_or_default() {
        SourceStatus {
            pointer: Some(file),
            watch: folder,
            ..
        } => Ok(Source::Pointer { file, folder }),
        SourceStatus {
            watch: Some(folder),
            ..
        } => Ok(Source::Folder(folder)),
        SourceStatus {
            artifact: Some(path),
            ..
        } => Ok(Source::Artifact(path)),
        SourceStatus {
            artifact: None,
            pointer: None,
            watch: None,
        } => Err(UnknownDeployment::Untold(state.to_owned())),
    }
}

fn uploads_beside(pointer: &Path) -> PathBuf {
    let folder = pointer.parent().unwrap_or(pointer);
    drop_folder(folder).unwrap_or_else(|| folder.join("releases"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_go_where_the_conventions_say() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = folder.path().join("_artifact.txt");
        let uploads = || {
            let place = DeploymentPaths::find(Some(pointer.clone()), None, None).unwrap();
            place
                .uploads
                .strip_prefix(folder.path())
                .unwrap()
                .to_owned()
        };
        assert_eq!(uploads(), Path::new("releases"));
        std::fs::create_dir(folder.path().join("_target")).unwrap();
        assert_eq!(uploads(), Path::new("_target"));
        let state = DeploymentPaths::find(Some(pointer.clone()), None, None)
            .unwrap()
            .state;
        assert_eq!(state, folder.path().join("_artifact.txt.handoff"));
        let with_slash = folder.path().join("_target/");
        let paths = DeploymentPaths::find(None, Some(with_slash), None).unwrap();
        assert_eq!(paths.state, folder.path().join("_target.handoff"));
    }

    #[test]
    fn a_state_that_tells_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let untold = DeploymentPaths::find(None, None, Some(folder.path().to_owned()));
        assert_eq!(
            untold,
            Err(UnknownDeployment::Untold(folder.path().to_owned()))
        );
    }
}
