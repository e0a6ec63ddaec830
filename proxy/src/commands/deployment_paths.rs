//! The paths of a deployment, from the options of a command.

use std::fs;
use std::path::{Path, PathBuf};

use super::sidecars::Sidecars;
use crate::cli::deployment::DeploymentArgs;
use crate::deployment::Source;
use crate::deployment::former_state::present_state;
use crate::deployment::source::{absolute, drop_folder};
use crate::deployment::status::SourceStatus;

/// The paths to which a deploy writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeploymentPaths {
    /// The pointer file; without it, sidecars run the newest artifact in `uploads`.
    pub(super) pointer: Option<PathBuf>,
    /// Artifact that the sidecars run in place.
    pub(super) in_place: Option<PathBuf>,
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
        "which deployment? Give --pointer FILE, --to DIR, --artifact PATH or --state DIR (or start in \
         the folder of a deployment)"
    )]
    Nowhere,
    /// There is no sidecar that has published its options.
    #[error(
        "no sidecar has published where it looks in {0:?}: give --pointer FILE, --to DIR or --artifact PATH"
    )]
    Untold(PathBuf),
    /// The working directory has several deployments.
    #[error("which deployment? Give one of these: {}", .0.iter().map(|state| format!("--state {state:?}")).collect::<Vec<_>>().join(", "))]
    Several(Vec<PathBuf>),
}

// === impl DeploymentPaths ===

impl DeploymentPaths {
    /// Finds the deployment of these options, which have the meanings that they have for `handoff
    /// run`.
    pub(super) fn find(
        pointer: Option<PathBuf>,
        folder: Option<PathBuf>,
        artifact: Option<PathBuf>,
        state: Option<PathBuf>,
    ) -> Result<Self, UnknownDeployment> {
        let (source, found) = match source_of(pointer, folder, artifact) {
            Some(source) => (source, None),
            None => match state.clone().map(absolute) {
                Some(state) => (published(&state)?, None),
                None => match here()? {
                    Here::Source(source) => (source, None),
                    Here::State(state) => {
                        let source = published(&state)?;
                        // A folder that was merely found has to belong to what it names.
                        if present_state(&source) != state {
                            return Err(UnknownDeployment::Untold(state));
                        }
                        (source, Some(state))
                    }
                },
            },
        };
        let state = state.map(absolute).or(found);
        let state = state.unwrap_or_else(|| present_state(&source));
        Ok(match source {
            Source::Artifact(path) => Self {
                pointer: None,
                uploads: path.parent().unwrap_or(&path).to_owned(),
                in_place: Some(path),
                state,
            },
            Source::Folder(uploads) => Self {
                pointer: None,
                in_place: None,
                uploads,
                state,
            },
            Source::Pointer { file, folder } => Self {
                uploads: folder.unwrap_or_else(|| uploads_beside(&file)),
                pointer: Some(file),
                in_place: None,
                state,
            },
        })
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
        Ok(match source_of(pointer, to, artifact) {
            Some(source) => present_state(&source),
            None => match here()? {
                Here::Source(source) => present_state(&source),
                Here::State(state) => state,
            },
        })
    }
}

/// Returns the source that the options name.
fn source_of(
    pointer: Option<PathBuf>,
    folder: Option<PathBuf>,
    artifact: Option<PathBuf>,
) -> Option<Source> {
    let [pointer, folder, artifact] = [pointer, folder, artifact].map(|path| path.map(absolute));
    match (pointer, folder, artifact) {
        (Some(file), folder, _) => Some(Source::Pointer { file, folder }),
        (None, Some(folder), _) => Some(Source::Folder(folder)),
        (None, None, artifact) => artifact.map(Source::Artifact),
    }
}

/// The deployment of the working directory.
enum Here {
    Source(Source),
    State(PathBuf),
}

/// Returns the deployment of the working directory: the conventional source, or the state folder
/// that sidecars have there.
fn here() -> Result<Here, UnknownDeployment> {
    let here = std::env::current_dir().map_err(|_| UnknownDeployment::Nowhere)?;
    deployment_in(&here)
}

fn deployment_in(folder: &Path) -> Result<Here, UnknownDeployment> {
    let source = Source::conventional(folder);
    match source {
        Some(source) if present_state(&source).exists() => return Ok(Here::Source(source)),
        _ => {}
    }
    let states = states_in(folder);
    match (&states[..], source) {
        ([state], _) => Ok(Here::State(state.clone())),
        // It may not have run yet, and the others do not run any more.
        (states, Some(source)) if !states.iter().any(|state| has_sidecars(state)) => {
            Ok(Here::Source(source))
        }
        ([], _) => Err(UnknownDeployment::Nowhere),
        _ => Err(UnknownDeployment::Several(states)),
    }
}

/// Returns the default state folders of what is in `folder`, or is that folder.
fn states_in(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let is_state = |path: &PathBuf| path.join("sidecars").is_dir();
    let of_artifact = Source::Artifact(folder.to_owned()).default_state();
    let beside = Source::Folder(folder.to_owned()).default_state();
    let mut states = vec![of_artifact, beside.clone()];
    states.extend(entries(&beside));
    for path in entries(folder) {
        if path
            .extension()
            .is_some_and(|extension| extension == "handoff")
        {
            states.extend(entries(&path));
            states.push(path);
        }
    }
    states.retain(is_state);
    states.sort();
    states.dedup();
    // Where some run, the others are remains.
    if states.len() > 1 && states.iter().any(|state| has_sidecars(state)) {
        states.retain(|state| has_sidecars(state));
    }
    states
}

/// Returns true if sidecars run in this state folder, or were killed.
fn has_sidecars(state: &Path) -> bool {
    let mut sidecars = Sidecars::of(state);
    sidecars.refresh();
    sidecars.all().next().is_some()
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
            let place = DeploymentPaths::find(Some(pointer.clone()), None, None, None).unwrap();
            place
                .uploads
                .strip_prefix(folder.path())
                .unwrap()
                .to_owned()
        };
        assert_eq!(uploads(), Path::new("releases"));
        fs::create_dir(folder.path().join("_target")).unwrap();
        assert_eq!(uploads(), Path::new("_target"));
        let state = DeploymentPaths::find(Some(pointer.clone()), None, None, None)
            .unwrap()
            .state;
        assert_eq!(state, folder.path().join("_artifact.txt.handoff"));
        let with_slash = folder.path().join("_target/");
        let paths = DeploymentPaths::find(None, Some(with_slash), None, None).unwrap();
        assert_eq!(paths.state, folder.path().join("_target.handoff"));
    }

    #[test]
    fn a_state_that_tells_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let untold = DeploymentPaths::find(None, None, None, Some(folder.path().to_owned()));
        assert_eq!(
            untold,
            Err(UnknownDeployment::Untold(folder.path().to_owned()))
        );
    }

    #[test]
    fn a_deployment_is_found_in_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        fs::create_dir_all(site.join("www")).unwrap();
        let found = |folder: &Path| match deployment_in(folder) {
            Ok(Here::State(state)) => Ok(vec![state]),
            Ok(Here::Source(source)) => Ok(vec![present_state(&source)]),
            Err(UnknownDeployment::Several(states)) => Err(states),
            Err(_) => Err(Vec::new()),
        };
        let make = |source: Source| {
            let state = source.default_state();
            fs::create_dir_all(state.join("sidecars")).unwrap();
            state
        };
        assert_eq!(found(&site), Err(vec![]));
        let app = make(Source::Artifact(site.join("app")));
        assert_eq!(found(&site), Ok(vec![app.clone()]));
        let www = make(Source::Artifact(site.join("www")));
        assert_eq!(found(&site.join("www")), Ok(vec![www.clone()]));
        assert_eq!(found(&site), Err(vec![app, www]));
        let pointer = make(Source::Pointer {
            file: site.join("www/_artifact.txt"),
            folder: None,
        });
        assert_eq!(found(&site.join("www")).unwrap_err().len(), 2);
        fs::write(site.join("www/_artifact.txt"), "v1").unwrap();
        assert_eq!(found(&site.join("www")), Ok(vec![pointer]));
    }
}
