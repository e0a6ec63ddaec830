//! What a look at an artifact tells without reading it.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::digest::entries;
use crate::os::files;

/// Lengths and times of an artifact: when they change, its content may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    /// The latest change of anything in it.
    pub changed: SystemTime,
    /// Whether it is a folder.
    pub is_folder: bool,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Looks at a file, or at everything in a folder.
    ///
    /// # Errors
    /// What the system said; in a folder also when an entry vanished meanwhile.
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
