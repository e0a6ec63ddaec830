//! Errors of files that name the very file, and the access that failed.

use std::io;
use std::path::{Path, PathBuf};

/// A failed access to one file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {access} {}: {source}", path.display())]
pub(crate) struct FileError {
    access: &'static str,
    pub(crate) path: PathBuf,
    source: io::Error,
}

/// The naming of the file in an error. Its kind stays, and so does a name that it has already.
pub(crate) trait NameFile: Sized {
    /// Names the file that could not be read.
    fn reading(self, path: &Path) -> Self;

    /// Names the file that could not be written.
    fn writing(self, path: &Path) -> Self;
}

// === impl FileError ===

impl FileError {
    /// Returns the failed access that an error names, if it names one.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl<T> NameFile for io::Result<T> {
    fn reading(self, path: &Path) -> Self {
        self.map_err(|error| named("read", path, error))
    }

    fn writing(self, path: &Path) -> Self {
        self.map_err(|error| named("write", path, error))
    }
}

fn named(access: &'static str, path: &Path, source: io::Error) -> io::Error {
    if FileError::of(&source).is_some() {
        return source;
    }
    let (kind, path) = (source.kind(), path.to_owned());
    io::Error::new(
        kind,
        FileError {
            access,
            path,
            source,
        },
    )
}
