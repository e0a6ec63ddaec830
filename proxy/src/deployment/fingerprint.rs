//! A cheap comparison of artifacts, without reading their contents.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::digest::{Entry, entries};
use super::file_error::NameFile as _;
use crate::os::files;

/// The lengths, times and permissions of an artifact: while they are equal, so is its content.
///
/// Version control folders and editor files are left out: they never cause a deploy.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    hash: u64,
    /// Time of the latest change in it, also of a name that is left out.
    pub changed: SystemTime,
    /// True for a folder.
    pub is_folder: bool,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Takes the fingerprint of a file, or of everything in a folder.
    ///
    /// # Errors
    /// When it cannot be read, also because an entry of a folder was removed meanwhile.
    pub fn of(path: &Path) -> io::Result<Self> {
        let is_folder = fs::metadata(path).reading(path)?.is_dir();
        let listed = if is_folder {
            entries(path)?
        } else {
            Vec::new()
        };
        Self::of_entries(path, &listed)
    }

    /// Takes the fingerprint of a file, or of a folder with these entries.
    ///
    /// # Errors
    /// As [`Fingerprint::of`].
    pub(crate) fn of_entries(path: &Path, entries: &[Entry]) -> io::Result<Self> {
        let mut hash = DefaultHasher::new();
        let top = fs::metadata(path).reading(path)?;
        let mut changed = SystemTime::UNIX_EPOCH;
        let mut look = |name: &[u8], metadata: &fs::Metadata| {
            let arrival = files::arrival(metadata);
            (name, files::mode(metadata)).hash(&mut hash);
            // A folder's own time changes with each name in it, also with an editor's. Its names
            // are hashed anyway.
            if !metadata.is_dir() {
                (arrival, metadata.len(), metadata.modified().ok()).hash(&mut hash);
            }
            changed = changed.max(arrival);
        };
        look(b"", &top);
        for entry in entries.iter().filter(|entry| !entry.is_aside) {
            look(
                &entry.name,
                &fs::symlink_metadata(&entry.path).reading(&entry.path)?,
            );
        }
        Ok(Self {
            hash: hash.finish(),
            changed,
            is_folder: top.is_dir(),
        })
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        (self.hash, self.is_folder) == (other.hash, other.is_folder)
    }
}

impl Eq for Fingerprint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_anywhere_in_a_folder_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b");
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(&file, "1").unwrap();
        let before = Fingerprint::of(folder.path()).unwrap();
        assert_eq!(before, Fingerprint::of(folder.path()).unwrap());
        fs::write(&file, "12").unwrap();
        let after = Fingerprint::of(folder.path()).unwrap();
        assert_ne!(before, after);
        fs::remove_file(&file).unwrap();
        assert_ne!(after, Fingerprint::of(folder.path()).unwrap());
    }

    #[test]
    fn version_control_and_editors_change_nothing_and_an_empty_folder_does() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["app", ".git/index", "lib/app"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1").unwrap();
        }
        let before = Fingerprint::of(folder.path()).unwrap();
        for name in [".git/index", ".git/FETCH_HEAD", "app~", "lib/.app.swp"] {
            fs::write(folder.path().join(name), "other").unwrap();
        }
        assert_eq!(Fingerprint::of(folder.path()).unwrap(), before);
        fs::create_dir(folder.path().join("lib/empty")).unwrap();
        assert_ne!(Fingerprint::of(folder.path()).unwrap(), before);
    }
}
