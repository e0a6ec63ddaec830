//! Where the operator says what to run, and the artifact that is meant.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checksum_file;
use super::drop_folder::DropFolder;
use super::pointer::{Pointer, PointerError};
use crate::release::Digest;

/// Where the operator says what to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This file or folder; replaced in place it is a new artifact.
    Artifact(PathBuf),
    /// What this text file names; while there is no such file, the newest in the drop folder.
    Pointer {
        /// The text file.
        file: PathBuf,
        /// The drop folder.
        folder: Option<PathBuf>,
    },
    /// The newest complete artifact in this folder.
    Folder(PathBuf),
}

/// The artifact that is meant now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The file or folder.
    pub path: PathBuf,
    /// The digest that came with it.
    pub digest: Option<Digest>,
    /// The name that came with it.
    pub id: Option<String>,
}

/// Why no artifact is known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is nothing yet.
    #[error("{0:?} does not exist yet")]
    Missing(PathBuf),
    /// The drop folder is empty.
    #[error("no artifact in {0:?} yet")]
    Empty(PathBuf),
    /// The pointer file cannot be understood.
    #[error("the pointer file {file:?} {source}")]
    Pointer {
        /// The pointer file.
        file: PathBuf,
        /// What is wrong with it.
        source: PointerError,
    },
    /// The pointer file names a path where nothing is.
    #[error("the pointer file {file:?} names {path:?}, which does not exist")]
    Dangling {
        /// The pointer file.
        file: PathBuf,
        /// What it names.
        path: PathBuf,
    },
    /// What is there cannot be copied; opening it might take for ever.
    #[error("{0:?} is neither a file nor a folder, but a pipe, a socket or a device")]
    Special(PathBuf),
    /// The file with the artifact's digest has none.
    #[error(
        "{0:?} has no digest of the artifact in it (yet): expected 64 hexadecimal digits, as \
         `sha256sum` or `handoff digest` print them"
    )]
    NoDigest(PathBuf),
    /// Reading failed.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

// === impl Source ===

impl Source {
    /// The article's layout in `folder`: `_artifact.txt`, `releases`, `_target`.
    pub fn conventional(folder: &Path) -> Option<Self> {
        let file = folder.join("_artifact.txt");
        let folder = drop_folder(folder);
        match (file.is_file(), folder) {
            (true, folder) => Some(Self::Pointer { file, folder }),
            (false, Some(folder)) => Some(Self::Folder(folder)),
            (false, None) => None,
        }
    }

    /// Where its sidecars and the commands meet, unless `--state` says otherwise.
    pub fn default_state(&self) -> PathBuf {
        let path = match self {
            Self::Artifact(path) => path.parent().unwrap_or(path),
            Self::Pointer { file, .. } => file,
            Self::Folder(folder) => folder,
        };
        let mut state = path.to_owned().into_os_string();
        state.push(".handoff");
        state.into()
    }

    /// The folders in which a change may mean a new artifact, `target` being the present one.
    pub fn watched<'a>(&'a self, target: Option<&'a Target>) -> Vec<&'a Path> {
        let mut watched = match self {
            Self::Artifact(path) => vec![parent(path)],
            Self::Pointer { file, folder } => {
                let folder = folder.as_deref();
                [Some(parent(file)), folder].into_iter().flatten().collect()
            }
            Self::Folder(folder) => vec![folder.as_path()],
        };
        if let Some(target) = target {
            watched.push(parent(&target.path));
        }
        watched.sort_unstable();
        watched.dedup();
        watched
    }

    /// The artifact that is meant now.
    ///
    /// # Errors
    /// [`SourceError`] when there is none.
    pub fn target(&self, drop_folder: &mut DropFolder) -> Result<Target, SourceError> {
        match self {
            Self::Artifact(path) => beside(path.clone()),
            Self::Pointer { file, folder } => match (fs::read(file), folder) {
                (Ok(content), _) => pointed(file, &content),
                (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                    newest(folder, Some(file), drop_folder)
                }
                (Err(error), _) => Err(read_error(file, error)),
            },
            Self::Folder(folder) => newest(folder, None, drop_folder),
        }
    }
}

/// The drop folder that lies in `folder` by convention.
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
    beside(newest.ok_or_else(|| SourceError::Empty(folder.to_owned()))?)
}

fn pointed(file: &Path, content: &[u8]) -> Result<Target, SourceError> {
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
    let target = beside(path)?;
    Ok(Target { id, ..target })
}

/// The artifact at `path`, with the digest in `NAME.sha256` beside it, if there is one.
fn beside(path: PathBuf) -> Result<Target, SourceError> {
    if !path.exists() {
        return Err(SourceError::Missing(path));
    }
    check_kind(&path)?;
    let mut sums = path.clone().into_os_string();
    sums.push(".sha256");
    let sums = PathBuf::from(sums);
    let digest = match fs::read(&sums) {
        Ok(content) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Half written it is no digest yet; and without it, nothing is proved.
            let digest = checksum_file::digest_of(&name, &content);
            Some(digest.ok_or(SourceError::NoDigest(sums))?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(read_error(&sums, error)),
    };
    Ok(Target {
        path,
        digest,
        id: None,
    })
}

fn check_kind(path: &Path) -> Result<(), SourceError> {
    let metadata = fs::metadata(path).map_err(|error| read_error(path, error))?;
    match metadata.is_file() || metadata.is_dir() {
        true => Ok(()),
        false => Err(SourceError::Special(path.to_owned())),
    }
}

fn read_error(path: &Path, source: io::Error) -> SourceError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        return SourceError::Missing(path);
    }
    SourceError::Read { path, source }
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
}
