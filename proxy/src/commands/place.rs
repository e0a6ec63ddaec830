//! Where a deployment is: the same for a sidecar and for every command.

use std::path::{Path, PathBuf};

use clap::Args;

use super::sidecars::Sidecars;
use crate::deployment::Source;
use crate::deployment::source::drop_folder;
use crate::deployment::status::SourceStatus;

/// A deployment's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What names the artifact; without it the newest in `uploads` is run.
    pub(super) pointer: Option<PathBuf>,
    /// Where artifacts are put.
    pub(super) uploads: PathBuf,
    /// Where the sidecars publish what they do.
    pub(super) state: PathBuf,
}

/// Which deployment a command is about: as `handoff run` is told.
#[derive(Args, Clone, Debug)]
pub struct Where {
    /// What the sidecars have as --state [default: as for `handoff run`, by the other options or
    /// by what lies here]
    #[arg(long, env = "HANDOFF_STATE", value_name = "DIR")]
    state: Option<PathBuf>,

    /// What they have as --pointer
    #[arg(long, env = "HANDOFF_POINTER", value_name = "FILE")]
    pointer: Option<PathBuf>,

    /// What they have as --watch
    #[arg(long, env = "HANDOFF_WATCH", value_name = "DIR")]
    to: Option<PathBuf>,

    /// What they have as --artifact
    #[arg(long, env = "HANDOFF_ARTIFACT", value_name = "PATH")]
    artifact: Option<PathBuf>,

    /// What they have as --config: it may name the others
    #[arg(long, env = "HANDOFF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why a deployment is not known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    /// Nothing was said, and nothing is here.
    #[error(
        "which deployment? Give --state DIR, --pointer FILE or --to DIR (or start in a folder with \
         _artifact.txt, releases or _target in it)"
    )]
    Nowhere,
    /// Only sidecars could tell, and there are none.
    #[error("no sidecar has published where it looks in {0:?}: give --pointer FILE or --to DIR")]
    Untold(PathBuf),
    /// There is nothing but one file to overwrite.
    #[error(
        "the sidecars run {0:?} itself (--artifact): replace that file, or run them with --pointer \
         or --watch"
    )]
    InPlace(PathBuf),
}

// === impl Place ===

impl Place {
    /// The deployment that the options mean, each as `handoff run` takes it.
    pub(super) fn find(
        pointer: Option<PathBuf>,
        folder: Option<PathBuf>,
        state: Option<PathBuf>,
    ) -> Result<Self, PlaceError> {
        let (pointer, folder, state) = (absolute(pointer), absolute(folder), absolute(state));
        let source = match (pointer, folder, &state) {
            (Some(file), folder, _) => Source::Pointer { file, folder },
            (None, Some(folder), _) => Source::Folder(folder),
            (None, None, Some(state)) => published(state)?,
            (None, None, None) => here()?,
        };
        let state = state.unwrap_or_else(|| source.default_state());
        match source {
            Source::Artifact(path) => Err(PlaceError::InPlace(path)),
            Source::Folder(uploads) => Ok(Self {
                pointer: None,
                uploads,
                state,
            }),
            Source::Pointer { file, folder } => Ok(Self {
                uploads: folder.unwrap_or_else(|| beside(&file)),
                pointer: Some(file),
                state,
            }),
        }
    }
}

// === impl Where ===

impl Where {
    /// The state folder.
    pub(super) fn state(&self) -> Result<PathBuf, PlaceError> {
        let Self {
            state,
            pointer,
            to,
            artifact,
            config: _,
        } = self.clone();
        if let Some(state) = absolute(state) {
            return Ok(state);
        }
        let source = match (absolute(pointer), absolute(to), absolute(artifact)) {
            (Some(file), folder, _) => Source::Pointer { file, folder },
            (None, Some(folder), _) => Source::Folder(folder),
            (None, None, Some(path)) => Source::Artifact(path),
            (None, None, None) => here()?,
        };
        Ok(source.default_state())
    }
}

/// What lies in the working directory.
fn here() -> Result<Source, PlaceError> {
    let here = std::env::current_dir().map_err(|_| PlaceError::Nowhere)?;
    Source::conventional(&here).ok_or(PlaceError::Nowhere)
}

/// What the sidecar that lived last has published.
fn published(state: &Path) -> Result<Source, PlaceError> {
    let mut sidecars = Sidecars::of(state);
    sidecars.look();
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
        } => Err(PlaceError::Untold(state.to_owned())),
    }
}

fn beside(pointer: &Path) -> PathBuf {
    let folder = pointer.parent().unwrap_or(pointer);
    drop_folder(folder).unwrap_or_else(|| folder.join("releases"))
}

fn absolute(path: Option<PathBuf>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(&path).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_go_where_the_conventions_say() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = folder.path().join("_artifact.txt");
        let uploads = || {
            let place = Place::find(Some(pointer.clone()), None, None).unwrap();
            place
                .uploads
                .strip_prefix(folder.path())
                .unwrap()
                .to_owned()
        };
        assert_eq!(uploads(), Path::new("releases"));
        std::fs::create_dir(folder.path().join("_target")).unwrap();
        assert_eq!(uploads(), Path::new("_target"));
        let state = Place::find(Some(pointer.clone()), None, None)
            .unwrap()
            .state;
        assert_eq!(state, folder.path().join("_artifact.txt.handoff"));
    }

    #[test]
    fn a_state_that_tells_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let untold = Place::find(None, None, Some(folder.path().to_owned()));
        assert_eq!(untold, Err(PlaceError::Untold(folder.path().to_owned())));
    }
}
