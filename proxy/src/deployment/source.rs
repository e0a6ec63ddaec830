//! The options that name what to run, and the artifact that they mean at the moment.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checksum_file;
use super::drop_folder::DropFolder;
use super::pointer::{Pointer, PointerError};
use crate::os::files;
use crate::release::Digest;

/// The options that name what to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or folder; replaced in place it is a new artifact.
    Artifact(PathBuf),
    /// A text file that names the artifact; while it does not exist, the newest artifact in the
    /// drop folder.
    Pointer {
        /// Path of the text file.
        file: PathBuf,
        /// Path of the drop folder.
        folder: Option<PathBuf>,
    },
    /// A drop folder: its newest complete artifact.
    Folder(PathBuf),
}

/// The artifact that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path of the file or folder.
    pub path: PathBuf,
    /// Digest that came with the artifact.
    pub digest: Option<Digest>,
    /// Release name that came with the artifact.
    pub id: Option<String>,
}

/// The reason why no artifact is known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The artifact does not exist yet.
    #[error("{path:?} does not exist yet{}", target_of(.0), path = .0)]
    Missing(PathBuf),
    /// The artifact that serves was removed, and nothing has arrived since.
    #[error(
        "the artifact that serves was removed from {0:?}, and what is older does not take its place: \
         the release serves on until another artifact arrives, or `handoff rollback` goes back to an \
         earlier one"
    )]
    Removed(PathBuf),
    /// The pointer file was removed.
    #[error(
        "the pointer file {0:?} was removed: the release that it named serves on; without a pointer file, \
         the next start of handoff takes the newest artifact in {1:?}"
    )]
    NoPointer(PathBuf, PathBuf),
    /// The drop folder is empty.
    #[error("no artifact in {0:?} yet")]
    Empty(PathBuf),
    /// The pointer file cannot be understood.
    #[error("the pointer file {file:?} {source}")]
    Pointer {
        /// Path of the pointer file.
        file: PathBuf,
        /// Fault of its content.
        source: PointerError,
    },
    /// The pointer file names a path that does not exist.
    #[error("the pointer file {file:?} names {path:?}, which does not exist")]
    Dangling {
        /// Path of the pointer file.
        file: PathBuf,
        /// The path that it names.
        path: PathBuf,
    },
    /// The path leads to a pipe, a socket or a device; opening one might never return.
    #[error("{0:?} is neither a file nor a folder, but a pipe, a socket or a device")]
    Special(PathBuf),
    /// The checksum file has no digest of the artifact.
    #[error(
        "{0:?} has no digest of the artifact in it (yet): expected 64 hexadecimal digits, as \
         `sha256sum` or `handoff digest` print them"
    )]
    NoDigest(PathBuf),
    /// Reading failed.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// Path that was read.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

// === impl Source ===

impl Source {
    /// Returns the conventional source in `folder`: `_artifact.txt`, `releases`, `_target`.
    pub fn conventional(folder: &Path) -> Option<Self> {
        let file = folder.join("_artifact.txt");
        let folder = drop_folder(folder);
        match (file.is_file(), folder) {
            (true, folder) => Some(Self::Pointer { file, folder }),
            (false, Some(folder)) => Some(Self::Folder(folder)),
            (false, None) => None,
        }
    }

    /// Returns the state folder to use without `--state`. It is the same before the artifact exists.
    pub fn default_state(&self) -> PathBuf {
        match self {
            // Not in the artifact's folder, which may be the app's working directory.
            Self::Artifact(path) => beside(parent(path)).join(state_name(path)),
            Self::Pointer { file, .. } => beside(file),
            Self::Folder(folder) => beside(folder),
        }
    }

    /// Returns the artifact that is to run now.
    ///
    /// # Errors
    /// [`SourceError`] when there is no such artifact.
    pub fn target(&self, drop_folder: &mut DropFolder) -> Result<Target, SourceError> {
        match self {
            Self::Artifact(path) => target_at(path.clone()),
            Self::Pointer { file, folder } => match (files::read_small(file), folder) {
                (Ok(content), _) => {
                    let target = pointed(file, &content)?;
                    drop_folder.note_pointed(&target.path);
                    Ok(target)
                }
                (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                    if drop_folder.is_pointed_serving() {
                        return Err(SourceError::NoPointer(file.clone(), folder.clone()));
                    }
                    newest(folder, Some(file), drop_folder)
                }
                (Err(error), _) => Err(read_error(file, error)),
            },
            Self::Folder(folder) => newest(folder, None, drop_folder),
        }
    }

    /// Returns the artifact that a pointer file with this content names.
    ///
    /// # Errors
    /// [`SourceError`] when there is no such artifact, or there is no pointer file.
    pub fn target_of(&self, content: &str) -> Result<Target, SourceError> {
        match self {
            Self::Pointer { file, .. } => pointed(file, content.as_bytes()),
            Self::Artifact(path) | Self::Folder(path) => Err(SourceError::Missing(path.clone())),
        }
    }

    /// Returns the artifacts of the drop folder that are older than its newest, the latest first;
    /// none if a path says which artifact is to run.
    pub fn older_targets(&self, drop_folder: &DropFolder) -> Vec<Target> {
        match self {
            Self::Artifact(_) => Vec::new(),
            Self::Pointer { file, .. } if file.exists() => Vec::new(),
            Self::Pointer { .. } | Self::Folder(_) => drop_folder
                .older()
                .filter_map(|path| target_at(path.to_owned()).ok())
                .collect(),
        }
    }
}

/// Returns the path of an option as sidecars and commands use it, wherever they run: absolute, and
/// without a slash at its end, since a suffix may be added to it.
pub fn absolute(path: PathBuf) -> PathBuf {
    let path = std::path::absolute(&path).unwrap_or(path);
    path.components().collect()
}

/// Returns `path` with `.handoff` at its end; in the root folder, which has no name, a folder of
/// that name.
pub(super) fn beside(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(_) => path.with_added_extension("handoff"),
        None => path.join(".handoff"),
    }
}

/// Returns the name of an artifact's folder among the states of its neighbours. Names that a state
/// folder contains itself get an underscore.
fn state_name(artifact: &Path) -> OsString {
    let mut name = artifact.file_name().unwrap_or_default().to_owned();
    let stem = name.to_string_lossy().trim_end_matches('_').to_lowercase();
    if ["sidecars", "shared", "log"].contains(&stem.as_str()) {
        name.push("_");
    }
    name
}

/// Returns the drop folder in `folder`: `releases`, or else `_target`.
pub fn drop_folder(folder: &Path) -> Option<PathBuf> {
    ["releases", "_target"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|folder| folder.is_dir())
}

fn newest(
    folder: &Path,
    pointer: Option<&Path>,
    drop_folder: &mut DropFolder,
) -> Result<Target, SourceError> {
    let newest = drop_folder
        .newest(folder, pointer)
        .map_err(|error| read_error(folder, error))?;
    if drop_folder.is_serving_removed() {
        return Err(SourceError::Removed(folder.to_owned()));
    }
    target_at(newest.ok_or_else(|| SourceError::Empty(folder.to_owned()))?)
}

/// Returns the artifact that the pointer file `file` names with this content.
///
/// # Errors
/// [`SourceError`] when there is no such artifact.
pub fn pointed(file: &Path, content: &[u8]) -> Result<Target, SourceError> {
    let pointer = Pointer::parse(content, parent(file), |name| std::env::var(name).ok());
    let Pointer { path, digest, id } = pointer.map_err(|source| SourceError::Pointer {
        file: file.to_owned(),
        source,
    })?;
    if !path.exists() {
        let file = file.to_owned();
        return Err(SourceError::Dangling { file, path });
    }
    check_kind(&path)?;
    if digest.is_some() {
        return Ok(Target { path, digest, id });
    }
    let target = target_at(path)?;
    Ok(Target { id, ..target })
}

/// Returns the artifact at `path`, with the digest in its checksum file, if it has one.
fn target_at(path: PathBuf) -> Result<Target, SourceError> {
    if !path.exists() {
        return Err(SourceError::Missing(path));
    }
    check_kind(&path)?;
    let checksum_file = checksum_file::path_for(&path);
    let digest = match files::read_small(&checksum_file) {
        Ok(content) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A digest may be half written; without it the artifact would count as unproved.
            let digest = checksum_file::digest_of(&name, &content);
            Some(digest.ok_or(SourceError::NoDigest(checksum_file))?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(read_error(&checksum_file, error)),
    };
    Ok(Target {
        path,
        digest,
        id: None,
    })
}

fn check_kind(path: &Path) -> Result<(), SourceError> {
    let metadata = fs::metadata(path).map_err(|error| read_error(path, error))?;
    if metadata.is_file() || metadata.is_dir() {
        Ok(())
    } else {
        Err(SourceError::Special(path.to_owned()))
    }
}

fn read_error(path: &Path, source: io::Error) -> SourceError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        return SourceError::Missing(path);
    }
    SourceError::Read { path, source }
}

/// Describes where a link leads whose target is missing.
fn target_of(path: &Path) -> String {
    match fs::read_link(path) {
        Ok(target) => format!(": it is a link to {target:?}"),
        Err(_) => String::new(),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_neither_a_file_nor_a_folder_is_no_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("socket", path("link")).unwrap();
        fs::write(path("pointer"), "link").unwrap();
        let mut seen = DropFolder::default();
        for source in [
            Source::Artifact(path("socket")),
            Source::Pointer {
                file: path("pointer"),
                folder: None,
            },
        ] {
            let refused = source.target(&mut seen);
            assert!(
                matches!(refused, Err(SourceError::Special(_))),
                "{refused:?}"
            );
        }
        fs::remove_file(path("pointer")).unwrap();
        let newest = Source::Folder(folder.path().to_owned()).target(&mut seen);
        assert!(matches!(newest, Err(SourceError::Empty(_))), "{newest:?}");
    }

    #[test]
    fn a_link_to_nothing_is_named_with_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("current");
        let problem = || {
            let source = Source::Artifact(current.clone());
            source
                .target(&mut DropFolder::default())
                .unwrap_err()
                .to_string()
        };
        assert!(problem().ends_with("does not exist yet"), "{}", problem());
        symlink("releases/7", &current).unwrap();
        assert!(
            problem().ends_with("a link to \"releases/7\""),
            "{}",
            problem()
        );
    }

    #[test]
    fn without_its_pointer_file_the_drop_folder_counts_unless_what_was_named_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("releases")).unwrap();
        fs::write(path("releases/one"), "1").unwrap();
        fs::write(path("other"), "2").unwrap();
        let source = Source::Pointer {
            file: path("pointer"),
            folder: Some(path("releases")),
        };
        let mut seen = DropFolder::default();
        let mut target = |serving: &str| {
            seen.set_serving(Some(path(serving)));
            source.target(&mut seen).map(|target| target.path)
        };
        assert_eq!(target("releases/one").unwrap(), path("releases/one"));
        fs::write(path("pointer"), "other").unwrap();
        assert_eq!(target("releases/one").unwrap(), path("other"));
        // It was refused, and its deploy taken back.
        fs::remove_file(path("pointer")).unwrap();
        assert_eq!(target("releases/one").unwrap(), path("releases/one"));
        fs::write(path("pointer"), "other").unwrap();
        assert_eq!(target("other").unwrap(), path("other"));
        fs::remove_file(path("pointer")).unwrap();
        let removed = target("other");
        assert!(
            matches!(removed, Err(SourceError::NoPointer(..))),
            "{removed:?}"
        );
    }
}
