//! Why an artifact is not accepted, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::ArchiveError;
use crate::release::Digest;

/// Why an artifact was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Somebody writes to it.
    #[error("{0:?} is open for writing")]
    Busy(PathBuf),
    /// It changed while it was copied.
    #[error("{0:?} changed while it was copied")]
    Changed(PathBuf),
    /// It is not yet, or not at all, what its digest says.
    #[error("{path:?} has the digest {found}, but {expected} came with it: it is not complete")]
    Digest {
        /// The artifact.
        path: PathBuf,
        /// What came with it.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// An archive is not, or not yet, whole.
    #[error("{path:?} {source}")]
    Broken {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        source: ArchiveError,
    },
    /// An archive is whole, and could do harm.
    #[error("{path:?} {source}")]
    Refused {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        source: ArchiveError,
    },
    /// Reading it or writing the copy failed.
    #[error("cannot copy {path:?} to {cache:?}: {source}{}", remedy(source))]
    Copy {
        /// The artifact.
        path: PathBuf,
        /// The cache.
        cache: PathBuf,
        /// What the system said.
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
        /// The working directory.
        workdir: PathBuf,
    },
    /// What is to be executed lies where nothing may be.
    #[error(
        "the cache {cache:?} is on a file system that runs no programs (mounted noexec), so \
         {program:?} cannot be started: choose another folder with --cache"
    )]
    NotExecutable {
        /// `--cache`
        cache: PathBuf,
        /// What COMMAND names.
        program: PathBuf,
    },
}

/// What to do about it, where we know.
fn remedy(error: &io::Error) -> &'static str {
    let is_full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if is_full.contains(&error.kind()) {
        "; it is tried again: make room there, or choose another folder with --cache"
    } else {
        ""
    }
}
