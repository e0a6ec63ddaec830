//! A cheap comparison of artifacts, without reading their contents.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::digest::entries;
use crate::os::files;

/// The lengths and times of an artifact: while they are equal, so is its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    /// Time of the latest change of any file in it.
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
        let mut hash = DefaultHasher::new();
        let top = fs::metadata(path)?;
        let mut changed = SystemTime::UNIX_EPOCH;
        let mut look = |name: &[u8], metadata: &fs::Metadata| {
            let arrival = files::arrival(metadata);
            // A folder's own time changes with each name in it, and names are hashed anyway.
            if metadata.is_file() {
                (metadata.len(), metadata.modified().ok()).hash(&mut hash);
            }
            (name, arrival).hash(&mut hash);
            changed = changed.max(arrival);
        };
        look(b"", &top);
        if top.is_dir() {
            for entry in entries(path)? {
                look(&entry.name, &fs::symlink_metadata(&entry.path)?);
            }
        }
        Ok(Self {
            hash: hash.finish(),
            changed,
            is_folder: top.is_dir(),
        })
    }
}

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
}
