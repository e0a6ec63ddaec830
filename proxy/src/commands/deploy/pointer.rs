//! The pointer file, written and put back by whoever deploys.

use std::fs;
use std::io;
use std::path::Path;

use crate::deployment::Pointer;
use crate::os::files;
use crate::release::Digest;

/// A pointer file that this deploy has written.
#[derive(Debug)]
pub(super) struct Written {
    before: Option<Vec<u8>>,
    ours: Vec<u8>,
}

/// What the pointer file names at present, if it can be understood.
pub(super) fn read(file: &Path) -> Option<Pointer> {
    parse(file, &fs::read(file).ok()?)
}

/// Has the pointer file name `artifact`.
///
/// # Errors
/// What the system said; also when the path cannot be written in a pointer file.
pub(super) fn write(file: &Path, artifact: &Path, digest: Digest, id: &str) -> io::Result<Written> {
    let folder = file.parent().unwrap_or(file);
    files::make_folder(folder)?;
    // Relative where it can be: another container may know the folder by another path.
    let path = artifact.strip_prefix(folder).unwrap_or(artifact);
    let ours = format!("{}\nsha256={}\nid={id}\n", path.display(), digest.hex()).into_bytes();
    if parse(file, &ours).is_none_or(|pointer| pointer.path != artifact) {
        let cannot = format!("a pointer file cannot name {artifact:?}");
        return Err(io::Error::other(cannot));
    }
    let before = match fs::read(file) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if before.as_ref() != Some(&ours) {
        files::write_atomically(file, &ours)?;
    }
    Ok(Written { before, ours })
}

// === impl Written ===

impl Written {
    /// Whether the file still says what this deploy has written.
    pub(super) fn holds(&self, file: &Path) -> bool {
        match fs::read(file) {
            Ok(content) => content == self.ours,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Whether it said the same before.
    pub(super) fn changed_nothing(&self) -> bool {
        self.before.as_ref() == Some(&self.ours)
    }

    /// What it named before, if it can be understood.
    pub(super) fn before(&self, file: &Path) -> Option<Pointer> {
        parse(file, self.before.as_ref()?)
    }

    /// Puts back what was there before, unless somebody has written something else since.
    ///
    /// No file system compares and writes in one step: another deploy in the very moment between
    /// could still be lost, and is told so by its own verdict.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn put_back(&self, file: &Path) -> io::Result<bool> {
        if self.changed_nothing() || !self.holds(file) {
            return Ok(false);
        }
        match &self.before {
            Some(before) => files::write_atomically(file, before)?,
            None => fs::remove_file(file)?,
        }
        Ok(true)
    }
}

fn parse(file: &Path, content: &[u8]) -> Option<Pointer> {
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
        assert!(!third.holds(&file));
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
