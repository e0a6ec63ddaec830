//! The reason why an artifact is not accepted, and the remedy.

use std::io;
use std::path::PathBuf;

use super::archive::ArchiveError;
use crate::release::Digest;

/// The reason why an artifact was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// A process writes to the artifact.
    #[error("{0:?} is open for writing")]
    Busy(PathBuf),
    /// The deployed folder has no file in it.
    #[error("the folder {0:?} is empty: it is accepted when there is something in it")]
    Empty(PathBuf),
    /// A file marks a deploy or a download under way.
    #[error("{0:?} marks a deploy under way: the artifact is accepted when that file is removed")]
    Offline(PathBuf),
    /// The artifact changed while it was copied.
    #[error("{0:?} changed while it was copied")]
    Changed(PathBuf),
    /// The content differs from the digest that came with it; it may be incomplete.
    #[error("{path:?} has the digest {found}, but {expected} came with it: it is not complete")]
    Digest {
        /// Path of the artifact.
        path: PathBuf,
        /// Digest that came with it.
        expected: Digest,
        /// Digest of its content.
        found: Digest,
    },
    /// The archive is of another format.
    #[error(
        "{0:?} is not a known kind of archive: pack it as .zip, .tar.gz or .tgz, or deploy the folder"
    )]
    UnsupportedArchive(PathBuf),
    /// The archive is incomplete or damaged.
    #[error("{path:?} {source}")]
    Broken {
        /// Path of the archive.
        path: PathBuf,
        /// Error of unpacking.
        source: ArchiveError,
    },
    /// The archive is complete, and could do harm.
    #[error("{path:?} {source}")]
    Refused {
        /// Path of the archive.
        path: PathBuf,
        /// Error of unpacking.
        source: ArchiveError,
    },
    /// The artifact could not be read, or the copy not written.
    #[error("cannot copy {path:?} to {cache:?}: {source}{}", remedy(source))]
    Copy {
        /// Path of the artifact.
        path: PathBuf,
        /// Path of the cache.
        cache: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The app could publish or overwrite handoff's own files.
    #[error(
        "the state folder {state:?} lies in the app's working directory {workdir:?}, where a \
         static file server would publish it: choose another with --state or --workdir"
    )]
    StateInWorkdir {
        /// `--state`
        state: PathBuf,
        /// Working directory of the app.
        workdir: PathBuf,
    },
    /// Each copy would be a change of what is copied.
    #[error(
        "the cache {cache:?} lies in the deployed folder {path:?}, which each private copy would \
         change: choose another with --cache"
    )]
    CacheInArtifact {
        /// `--cache`
        cache: PathBuf,
        /// Path of the artifact.
        path: PathBuf,
    },
    /// The program is on a file system that runs none.
    #[error(
        "the cache {cache:?} is on a file system that runs no programs (mounted noexec), so \
         {program:?} cannot be started: choose another folder with --cache"
    )]
    NotExecutable {
        /// `--cache`
        cache: PathBuf,
        /// The program that COMMAND names.
        program: PathBuf,
    },
}

/// Returns the remedy, where one is known.
fn remedy(error: &io::Error) -> &'static str {
    let is_full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if is_full.contains(&error.kind()) {
        "; it is tried again: make room there, or choose another folder with --cache"
    } else {
        ""
    }
}
