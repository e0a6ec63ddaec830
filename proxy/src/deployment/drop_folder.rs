//! The drop folder: the newest artifact in it, by arrival.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::os::files;

/// Endings of unfinished files, of backups, and of files that belong to an artifact: checksums,
/// signatures and attestations.
const SUFFIXES_OF_OTHERS: [&str; 30] = [
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    // WinSCP
    ".filepart",
    // Browsers
    ".crdownload",
    ".download",
    ".opdownload",
    ".aria2",
    ".lock",
    ".swp",
    ".bak",
    ".old",
    ".orig",
    ".md5",
    ".sha1",
    ".sha224",
    ".sha256",
    ".sha384",
    ".sha512",
    ".b3",
    ".blake3",
    ".asc",
    ".sig",
    ".sign",
    ".minisig",
    ".sigstore",
    ".sigstore.json",
    ".intoto.jsonl",
    ".sbom",
];
/// Names that tools leave in a folder. Kudu puts `app_offline.htm` beside the files that it deploys.
const NAMES_OF_OTHERS: [&str; 5] = [
    "app_offline.htm",
    "_artifact.txt",
    "lost+found",
    "desktop.ini",
    "thumbs.db",
];

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

/// Returns true if a file of this name can be an artifact: not an unfinished one, nor one that
/// describes or belongs to another.
pub fn is_artifact(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let is_temporary = name.starts_with('.') || name.ends_with('~');
    // `app.zip.sbom`: no artifact's name goes on after the ending of an archive.
    let is_companion = [".zip.", ".tgz.", ".tar.gz."]
        .iter()
        .any(|ending| name.contains(ending))
        || SUFFIXES_OF_OTHERS
            .iter()
            .any(|suffix| name.ends_with(suffix));
    // `SHA256SUMS`, `app_1.2_checksums.txt`.
    let list = name.strip_suffix(".txt").unwrap_or(&name);
    let list = list.strip_suffix('s').unwrap_or(list);
    let is_list = ["checksum", "md5sum", "b2sum", "b3sum"]
        .iter()
        .any(|ending| list.ends_with(ending))
        || list.rsplit_once("sha").is_some_and(|(_, sum)| {
            let bits = sum.strip_suffix("sum");
            bits.is_some_and(|bits| bits.bytes().all(|byte| byte.is_ascii_digit()))
        });
    !(is_temporary || is_companion || is_list || NAMES_OF_OTHERS.contains(&name.as_str()))
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
            "app-2.zip.asc",
            "app.sig",
            "app.minisig",
            "app.md5",
            "app.sha1",
            "app.jar.SHA512",
            "app.partial",
            "Unconfirmed 1.crdownload",
            "app.exe.bak",
            "app.zip.3f2A1b9c",
            "app-2.tar.gz.spdx.json",
            "app.sigstore.json",
            "SHA256SUMS",
            "checksums.txt",
            "app_2.0_checksums.txt",
            "SHA512SUMS.asc",
            "app.sha256sum",
            "lost+found",
            "App_Offline.htm",
            "_ARTIFACT.txt",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        assert_eq!(newest(&mut DropFolder::default(), folder.path()), None);
        for name in [
            "app",
            "app-1.2",
            "app.zip",
            "app.old.zip",
            "sums.jar",
            "gosums",
        ] {
            assert!(is_artifact(name.as_ref()), "{name}");
        }
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
