//! Writes the pointer file, and puts the one before back.

use std::fs;
use std::io;
use std::path::Path;

use crate::deployment::pointer::{self, Pointer};
use crate::os::files;
use crate::release::Digest;

/// A pointer file that this deploy has written.
#[derive(Debug)]
pub(super) struct WrittenPointer {
    before: Option<Vec<u8>>,
    ours: Vec<u8>,
}

/// Returns the content of the pointer file, if it can be understood.
pub(super) fn read(file: &Path) -> Option<Pointer> {
    parse(file, &files::read_small(file).ok()?)
}

/// Writes a pointer file that names `artifact`.
///
/// # Errors
/// When it cannot be written, also because a pointer file cannot express the path.
pub(super) fn write(
    file: &Path,
    artifact: &Path,
    digest: Digest,
    id: &str,
) -> io::Result<WrittenPointer> {
    let folder = file.parent().unwrap_or(file);
    files::make_folder(folder)?;
    // Relative where possible: other containers may mount the folder at another path.
    let path = artifact.strip_prefix(folder).unwrap_or(artifact);
    let ours = pointer::content(path, digest, id).into_bytes();
    if parse(file, &ours).is_none_or(|pointer| pointer.path != artifact) {
        let cannot = format!("a pointer file cannot name {artifact:?}");
        return Err(io::Error::other(cannot));
    }
    let before = match files::read_small(file) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if before.as_ref() != Some(&ours) {
        files::write_atomically(file, &ours)?;
    }
    Ok(WrittenPointer { before, ours })
}

// === impl WrittenPointer ===

impl WrittenPointer {
    /// Returns true if the file still has the content that this deploy has written.
    pub(super) fn is_current(&self, file: &Path) -> bool {
        match files::read_small(file) {
            Ok(content) => content == self.ours,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Returns true if it had the same content before.
    pub(super) fn is_unchanged(&self) -> bool {
        self.before.as_ref() == Some(&self.ours)
    }

    /// Returns the content before, if it can be understood.
    pub(super) fn before(&self, file: &Path) -> Option<Pointer> {
        parse(file, self.before.as_ref()?)
    }

    /// Puts back the content before, unless the file has been changed since. Returns true if it
    /// did.
    ///
    /// No file system compares and writes in one step: a deploy in the moment between would be
    /// lost, and reports that another one came in between.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn put_back(&self, file: &Path) -> io::Result<bool> {
        if self.is_unchanged() || !self.is_current(file) {
            return Ok(false);
        }
        match &self.before {
            Some(before) => files::write_atomically(file, before)?,
            None => fs::remove_file(file)?,
        }
        Ok(true)
    }
}

/// Returns the pointer that this content of the file is, if it can be understood.
pub(super) fn parse(file: &Path, content: &[u8]) -> Option<Pointer> {
    let folder = file.parent().unwrap_or(file);
    Pointer::parse(content, folder, |name| std::env::var(name).ok()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_before_is_put_back_unless_somebody_was_quicker() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("_artifact.txt");
        let digest = Digest::parse(&"a".repeat(64)).unwrap();
        let write = |name: &str| write(&file, &folder.path().join(name), digest, name).unwrap();
        let named = || read(&file).map(|pointer| pointer.path);

        let first = write("v1");
        assert_eq!(read(&file).unwrap().digest, Some(digest));
        assert!(first.put_back(&file).unwrap());
        assert_eq!(named(), None, "there was none");

        write("v1");
        let second = write("v2");
        assert!(second.put_back(&file).unwrap());
        assert_eq!(named(), Some(folder.path().join("v1")));

        let third = write("v3");
        fs::write(&file, "by-hand").unwrap();
        assert!(!third.is_current(&file));
        assert!(!third.put_back(&file).unwrap());
        assert_eq!(named(), Some(folder.path().join("by-hand")));
    }

    #[test]
    fn a_path_that_would_be_read_as_another_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("_artifact.txt");
        let digest = Digest::parse(&"a".repeat(64)).unwrap();
        for name in ["%PATH%", " blank", "two\nlines"] {
            let error = write(&file, &folder.path().join(name), digest, "x").unwrap_err();
            assert!(error.to_string().contains("cannot name"), "{error}");
        }
        assert!(!file.exists());
    }
}
