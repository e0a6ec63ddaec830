//! The paths of a deployment, from the options of a command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sidecars::Sidecars;
use crate::cli::deployment::DeploymentArgs;
use crate::deployment::Source;
use crate::deployment::former_state::present_state;
use crate::deployment::source::{absolute, drop_folder};
use crate::deployment::status::SourceStatus;
use crate::os::rights::Rights;

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
    /// Rights of whoever has named these paths.
    named_by: Rights,
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
    /// The system refuses the rights with which its files are to be read.
    #[error("{0}")]
    Rights(String),
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
        named_by: &Rights,
    ) -> Result<Self, UnknownDeployment> {
        let mut named_by = named_by.clone();
        let (source, found) = match source_of(pointer, folder, artifact) {
            Some(source) => (source, None),
            None => match state.clone().map(absolute) {
                Some(state) => {
                    named_by = named_by.or_over(&state);
                    let source = named_by
                        .clone()
                        .within(|| published(&state, &mut named_by))?;
                    (source, None)
                }
                None => {
                    named_by = named_by.or_over(&working_directory()?);
                    match named_by.within(here)? {
                        Here::Source(source) => (source, None),
                        Here::State(state) => {
                            named_by = named_by.or_over(&state);
                            let source = named_by
                                .clone()
                                .within(|| published(&state, &mut named_by))?;
                            // A folder that was merely found has to belong to what it names.
                            if present_state(&source) != state {
                                return Err(UnknownDeployment::Untold(state));
                            }
                            (source, Some(state))
                        }
                    }
                }
            },
        };
        let state = match state.map(absolute).or(found) {
            Some(state) => state,
            None => state_of(&source, &named_by)?,
        };
        let (pointer, in_place, uploads) = match source {
            Source::Artifact(path) => {
                let folder = path.parent().unwrap_or(&path).to_owned();
                (None, Some(path), folder)
            }
            Source::Folder(uploads) => (None, None, uploads),
            Source::Pointer { file, folder } => {
                let uploads = folder.unwrap_or_else(|| uploads_beside(&file));
                (Some(file), None, uploads)
            }
        };
        Ok(Self {
            pointer,
            in_place,
            uploads,
            state,
            named_by,
        })
    }

    /// Returns the rights with which a command works on the folder `path`, or on what is in it.
    pub(super) fn rights_over(&self, path: &Path) -> Rights {
        self.named_by.or_over(path)
    }
}

// === impl Rights ===

impl Rights {
    /// Looks for a deployment with these rights.
    fn within<T>(
        &self,
        work: impl FnOnce() -> Result<T, UnknownDeployment>,
    ) -> Result<T, UnknownDeployment> {
        self.apply(|| Ok(work())).map_err(UnknownDeployment::from)?
    }
}

impl From<io::Error> for UnknownDeployment {
    fn from(error: io::Error) -> Self {
        Self::Rights(error.to_string())
    }
}

// === impl DeploymentArgs ===

impl DeploymentArgs {
    /// Finds the state folder, and takes on the rights of its owner until the command ends.
    pub(super) fn enter(&self) -> Result<PathBuf, UnknownDeployment> {
        let Self {
            state,
            pointer,
            to,
            artifact,
            config: _,
            mut named_by,
        } = self.clone();
        let state = match (state.map(absolute), source_of(pointer, to, artifact)) {
            (Some(state), _) => state,
            (None, Some(source)) => state_of(&source, &named_by)?,
            (None, None) => {
                named_by = named_by.or_over(&working_directory()?);
                match named_by.within(here)? {
                    Here::Source(source) => state_of(&source, &named_by)?,
                    Here::State(state) => state,
                }
            }
        };
        named_by.or_over(&state).take_on()?;
        Ok(state)
    }
}

/// Returns the state folder in which the sidecars of `source` publish.
fn state_of(source: &Source, named_by: &Rights) -> Result<PathBuf, UnknownDeployment> {
    // The former one is in the same folder.
    let rights = named_by.or_over(&source.default_state());
    rights.within(|| Ok(present_state(source)))
}

fn working_directory() -> Result<PathBuf, UnknownDeployment> {
    std::env::current_dir().map_err(|_| UnknownDeployment::Nowhere)
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
    deployment_in(&working_directory()?)
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

/// Returns the source of the sidecar that wrote its status last, and limits `rights` to those of
/// whoever could have written it: others than root may have a file in a folder of root's.
fn published(state: &Path, rights: &mut Rights) -> Result<Source, UnknownDeployment> {
    let mut sidecars = Sidecars::of(state);
    sidecars.refresh();
    let source = sidecars.latest(rights).map(|(status, writer)| {
        *rights = writer;
        status.source.clone()
    });
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
            poll_ms: _,
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

    fn find(
        pointer: Option<PathBuf>,
        folder: Option<PathBuf>,
        state: Option<PathBuf>,
    ) -> Result<DeploymentPaths, UnknownDeployment> {
        DeploymentPaths::find(pointer, folder, None, state, &Rights::default())
    }

    #[test]
    fn uploads_go_where_the_conventions_say() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = folder.path().join("_artifact.txt");
        let uploads = || {
            let place = find(Some(pointer.clone()), None, None).unwrap();
            place
                .uploads
                .strip_prefix(folder.path())
                .unwrap()
                .to_owned()
        };
        assert_eq!(uploads(), Path::new("releases"));
        fs::create_dir(folder.path().join("_target")).unwrap();
        assert_eq!(uploads(), Path::new("_target"));
        let state = find(Some(pointer.clone()), None, None).unwrap().state;
        assert_eq!(state, folder.path().join("_artifact.txt.handoff"));
        let with_slash = folder.path().join("_target/");
        let paths = find(None, Some(with_slash), None).unwrap();
        assert_eq!(paths.state, folder.path().join("_target.handoff"));
    }

    #[test]
    fn a_state_that_tells_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let untold = find(None, None, Some(folder.path().to_owned()));
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
