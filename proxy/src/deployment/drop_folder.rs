//! The drop folder: the newest artifact in it, by arrival.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::os::files;

/// The artifacts of a drop folder in the order of their arrival.
#[derive(Debug, Default)]
pub struct DropFolder {
    scans: u64,
    seen: BTreeMap<OsString, Arrival>,
}

/// The time of an arrival: the number of the scan that first saw it, then its change by the
/// system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    scan: u64,
    changed: SystemTime,
}

// === impl DropFolder ===

impl DropFolder {
    /// Returns the artifact that arrived or changed last.
    ///
    /// A name that appears while this process runs is newer than all that were there before,
    /// whatever its times are: archives and `cp -p` bring old ones. The file `pointer` is no
    /// artifact, whatever its name is.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest(&mut self, folder: &Path, pointer: Option<&Path>) -> io::Result<Option<PathBuf>> {
        self.scans += 1;
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let is_pointer = || pointer.is_some_and(|pointer| folder.join(&name) == pointer);
            if !is_artifact(&name) || is_pointer() {
                continue;
            }
            // The file has been removed since it was listed.
            let Ok(metadata) = fs::metadata(folder.join(&name)) else {
                continue;
            };
            // Opening a pipe would block.
            if !metadata.is_file() && !metadata.is_dir() {
                continue;
            }
            let changed = files::arrival(&metadata);
            let arrival = match self.seen.get(&name) {
                Some(&seen) if seen.changed == changed => seen,
                _ => Arrival {
                    scan: self.scans,
                    changed,
                },
            };
            present.insert(name, arrival);
        }
        self.seen = present;
        let newest = self.seen.iter().max_by_key(|(_, arrival)| **arrival);
        Ok(newest.map(|(name, _)| folder.join(name)))
    }
}

/// Returns true if a file of this name can be an artifact: not an unfinished one, nor one that belongs to
/// another.
pub fn is_artifact(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let temporary = name.starts_with('.')
        || name.ends_with('~')
        // WinSCP adds `.filepart`.
        || [".tmp", ".part", ".sha256", ".filepart"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
    // Kudu puts app_offline.htm beside the files that it deploys.
    !temporary && name != "app_offline.htm" && name != "_artifact.txt"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(seen: &mut DropFolder, folder: &Path) -> Option<String> {
        let newest = seen.newest(folder, None).unwrap()?;
        Some(newest.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn what_comes_last_is_the_newest_whatever_its_times_say() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), name).unwrap();
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, folder.path()), None);
        write("b");
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "b");
        write("a");
        let old = fs::File::options()
            .write(true)
            .open(folder.path().join("a"))
            .unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(old);
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "a");
        fs::remove_file(folder.path().join("a")).unwrap();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "b");
    }

    #[test]
    fn what_is_being_written_is_no_artifact() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            ".app",
            "app.tmp",
            "app.PART",
            "app~",
            "app.sha256",
            "app.zip.SHA256",
            "app.exe.filepart",
            "App_Offline.htm",
            "_ARTIFACT.txt",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        assert_eq!(newest(&mut DropFolder::default(), folder.path()), None);
        let pointer = folder.path().join("current");
        fs::write(&pointer, "app").unwrap();
        let mut seen = DropFolder::default();
        assert_eq!(seen.newest(folder.path(), Some(&pointer)).unwrap(), None);
        assert_eq!(seen.newest(folder.path(), None).unwrap(), Some(pointer));
    }

    #[test]
    fn a_folder_that_vanishes_and_returns_is_looked_at_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("releases");
        let mut seen = DropFolder::default();
        assert!(seen.newest(&folder, None).is_err());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a"), "a").unwrap();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "a");
        fs::remove_dir_all(&folder).unwrap();
        assert!(seen.newest(&folder, None).is_err());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("b"), "b").unwrap();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "b");
    }
}
