//! A cheap comparison of artifacts, without reading their contents.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::digest::{Entry, EntryKind, belongs_aside};
use super::file_error::NameFile as _;
use crate::os::files;

/// The lengths, times, permissions and identities of an artifact: while they are equal, so is its
/// content.
///
/// Two folders that were made at the same moment may differ in their identities alone. On a share,
/// a file may get another one while it stays the same, so identities do not count there.
///
/// Version control folders and editor files are left out: they never cause a deploy.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    /// Sum of the hashes of all entries, in any order.
    hash: u64,
    /// Time of the latest change in it.
    pub changed: SystemTime,
    /// True for a folder.
    pub is_folder: bool,
    /// Number of folders in it, itself included; zero for a file.
    pub folders: usize,
    /// True if inodes count: on a local file system.
    has_identities: bool,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Takes the fingerprint of a file, or of everything in a folder.
    ///
    /// # Errors
    /// When it cannot be read, also because an entry of a folder was removed meanwhile.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (mut fingerprint, is_folder) = Self::of_top(path)?;
        if is_folder {
            fingerprint.walk(path)?;
        }
        Ok(fingerprint)
    }

    /// Takes the fingerprint of a file, or of a folder with these entries.
    ///
    /// # Errors
    /// As [`Fingerprint::of`].
    pub(crate) fn of_entries(path: &Path, entries: &[Entry]) -> io::Result<Self> {
        let (mut fingerprint, _) = Self::of_top(path)?;
        for entry in entries.iter().filter(|entry| !entry.is_aside) {
            let metadata = fs::symlink_metadata(&entry.path).reading(&entry.path)?;
            fingerprint.add(&entry.name, &metadata);
            fingerprint.folders += usize::from(entry.kind == EntryKind::Folder);
        }
        Ok(fingerprint)
    }

    fn of_top(path: &Path) -> io::Result<(Self, bool)> {
        let top = fs::metadata(path).reading(path)?;
        let mut fingerprint = Self {
            hash: 0,
            changed: SystemTime::UNIX_EPOCH,
            is_folder: top.is_dir(),
            folders: usize::from(top.is_dir()),
            has_identities: files::is_on_local_file_system(path),
        };
        fingerprint.add(b"", &top);
        Ok((fingerprint, top.is_dir()))
    }

    /// Adds everything in a folder.
    fn walk(&mut self, folder: &Path) -> io::Result<()> {
        let mut folders = vec![(folder.to_owned(), Vec::new())];
        while let Some((folder, above)) = folders.pop() {
            for entry in fs::read_dir(&folder).reading(&folder)? {
                let entry = entry.reading(&folder)?;
                let name = entry.file_name();
                if belongs_aside(name.as_encoded_bytes()) {
                    continue;
                }
                // The folder's listing has it on Windows; on Linux no path is looked up.
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) => return Err(error).reading(&entry.path()),
                };
                let is_folder = metadata.is_dir();
                if !is_folder && !metadata.is_file() && !metadata.is_symlink() {
                    // A socket, a pipe or a device has no content.
                    continue;
                }
                let mut name = [&above, name.as_encoded_bytes()].concat();
                self.add(&name, &metadata);
                if is_folder {
                    self.folders += 1;
                    name.push(b'/');
                    folders.push((entry.path(), name));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], metadata: &Metadata) {
        let mut hash = DefaultHasher::new();
        let arrival = files::arrival(metadata);
        (name, files::mode(metadata)).hash(&mut hash);
        if self.has_identities {
            files::inode(metadata).hash(&mut hash);
        }
        // A folder's own time changes with each name in it, also with an editor's. Its names are
        // hashed anyway.
        if !metadata.is_dir() {
            (arrival, metadata.len(), metadata.modified().ok()).hash(&mut hash);
        }
        self.hash = self.hash.wrapping_add(hash.finish());
        self.changed = self.changed.max(arrival);
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

    #[cfg(unix)]
    #[test]
    fn another_folder_with_equal_names_lengths_and_times_is_another_artifact() {
        // The system's clock of files is coarse, so two that are made together have equal times.
        let time_of = |folder: &tempfile::TempDir| {
            let metadata = fs::metadata(folder.path().join("app")).unwrap();
            (files::arrival(&metadata), metadata.modified().unwrap())
        };
        let (one, other) = (0..10_000)
            .map(|_| {
                let both = [(); 2].map(|()| tempfile::tempdir().unwrap());
                for (folder, content) in both.iter().zip(["1", "2"]) {
                    fs::write(folder.path().join("app"), content).unwrap();
                }
                both.into()
            })
            .find(|(one, other)| time_of(one) == time_of(other))
            .expect("two folders of one moment");
        let of = |folder: &tempfile::TempDir| Fingerprint::of(folder.path()).unwrap();
        assert_eq!(of(&one), of(&one));
        assert_ne!(of(&one), of(&other));
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
