//! The drop folder: the newest artifact in it, by arrival.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::digest::belongs_aside;
use super::names::path_key;
use crate::os::files::{self, Access};
use crate::release::Digest;

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
///
/// An artifact arrives when its name appears, or its content changes: of a file its inode, length or
/// time of modification; of a folder its inode or the files that lie directly in it. The time of
/// change (ctime) alone says nothing, since `chmod`, `chown` and a backup with hard links set it, and
/// a folder's time of modification says nothing, since a new empty folder in it sets it.
#[derive(Debug, Default)]
pub struct DropFolder {
    /// Marks of the artifacts that are known, the latest last.
    order: Vec<String>,
    /// Artifacts that the last scan found, the latest last.
    present: Vec<PathBuf>,
    has_scanned: bool,
    memory: Option<ArrivalMemory>,
    /// Marks of folders, with the times of modification at which they were made.
    marks: HashMap<PathBuf, (SystemTime, String)>,
}

/// The folder of this machine in which the order is remembered.
#[derive(Debug)]
struct ArrivalMemory {
    folder: PathBuf,
    without: TimeOfArrival,
}

/// The time that orders the artifacts of a first scan of which nothing is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOfArrival {
    /// The time of modification, which is kept when a site is copied to another machine.
    Modified,
    /// The time at which the artifact got its name or attributes, as handoff 0.1.0 ordered.
    Changed,
}

struct Found {
    path: PathBuf,
    mark: String,
    /// The mark of a folder as version 0.1 made it.
    former_mark: Option<String>,
    time: SystemTime,
}

// === impl DropFolder ===

impl DropFolder {
    /// Creates a folder whose order outlives this process, in a file in the folder `memory`.
    pub fn remembered_in(memory: PathBuf, without: TimeOfArrival) -> Self {
        Self {
            memory: Some(ArrivalMemory {
                folder: memory,
                without,
            }),
            ..Self::default()
        }
    }

    /// Returns the artifact that arrived last.
    ///
    /// What appears while this process runs is newer than all that was there before, whatever its
    /// times are: archives and `cp -p` bring old ones. What was there before the first scan is
    /// ordered as it is remembered, then by time and name. The file `pointer` is no artifact,
    /// whatever its name is.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest(&mut self, folder: &Path, pointer: Option<&Path>) -> io::Result<Option<PathBuf>> {
        self.present.clear();
        let entries = fs::read_dir(folder)?;
        let is_first = !std::mem::replace(&mut self.has_scanned, true);
        let mut by = TimeOfArrival::Changed;
        if is_first || self.order.is_empty() {
            by = TimeOfArrival::Modified;
            if let (true, Some(memory)) = (is_first, &self.memory) {
                match files::read_large(&memory.file(folder)) {
                    Ok(lines) => {
                        let lines = String::from_utf8_lossy(&lines);
                        self.order = lines.lines().map(str::to_owned).collect();
                    }
                    Err(_) => by = memory.without,
                }
            }
        }
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let path = folder.join(&name);
            if !is_artifact(&name) || pointer.is_some_and(|pointer| path == pointer) {
                continue;
            }
            // The file has been removed since it was listed.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            // Opening a pipe would block.
            if !metadata.is_file() && !metadata.is_dir() {
                continue;
            }
            let (mark, former_mark) = if metadata.is_dir() {
                let mark = self.mark_of_folder(&path, &metadata);
                (mark, Some(mark_of(&name, &metadata)))
            } else {
                (mark_of(&name, &metadata), None)
            };
            let time = match by {
                TimeOfArrival::Modified => metadata.modified()?,
                TimeOfArrival::Changed => files::arrival(&metadata),
            };
            found.push(Found {
                path,
                mark,
                former_mark,
                time,
            });
        }
        // A volume that is not mounted is an empty folder.
        if found.is_empty() {
            return Ok(None);
        }
        let known: HashMap<&str, usize> = (self.order.iter().enumerate())
            .map(|(place, mark)| (mark.as_str(), place))
            .collect();
        found.sort_by(|one, other| {
            let place_of = |mark: &str| known.get(mark).copied();
            let place = |found: &Found| {
                let former = || found.former_mark.as_deref().and_then(place_of);
                place_of(&found.mark).or_else(former).unwrap_or(usize::MAX)
            };
            (place(one).cmp(&place(other)))
                .then_with(|| one.time.cmp(&other.time))
                .then_with(|| compare_naturally(&one.path, &other.path))
        });
        let (present, order) = (found.into_iter())
            .map(|found| (found.path, found.mark))
            .unzip();
        self.present = present;
        if self.order != order {
            self.order = order;
            if let Some(memory) = &self.memory {
                self.remember(&memory.file(folder));
            }
        }
        Ok(self.present.last().cloned())
    }

    /// Returns the artifacts that the last scan found beside the newest, the latest first.
    pub fn older(&self) -> impl Iterator<Item = &Path> {
        self.present.iter().rev().skip(1).map(PathBuf::as_path)
    }

    /// Returns a text that is the same while the folder and the files in it are.
    fn mark_of_folder(&mut self, path: &Path, metadata: &fs::Metadata) -> String {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if let Some((at, mark)) = self.marks.get(path)
            && *at == modified
        {
            return mark.clone();
        }
        let files = fs::read_dir(path).into_iter().flatten().flatten();
        let files = files.filter(|file| file.file_type().is_ok_and(|kind| !kind.is_dir()));
        let files = files.filter(|file| !belongs_aside(file.file_name().as_encoded_bytes()));
        let inode = |file: &fs::DirEntry| file.metadata().map_or(0, |file| files::inode(&file));
        let mut files: Vec<_> = files.map(|file| (file.file_name(), inode(&file))).collect();
        files.sort();
        let mut hash = Sha256::new_with_prefix(name_of(path));
        hash.update([0]);
        hash.update(files::inode(metadata).to_le_bytes());
        for (name, inode) in files {
            hash.update(name.as_encoded_bytes());
            hash.update([0]);
            hash.update(inode.to_le_bytes());
        }
        let mark = finish_mark(hash);
        self.marks.insert(path.to_owned(), (modified, mark.clone()));
        mark
    }

    fn remember(&self, file: &Path) {
        let folder = file.parent().unwrap_or(file);
        let lines = self.order.join("\n") + "\n";
        let written = files::make_own_folder(folder, Access::None)
            .and_then(|()| files::write_atomically(file, lines.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(
                event = "memory_not_written",
                file = %file.display(),
                %error,
                "cannot remember the order in which artifacts arrived"
            );
        }
    }
}

// === impl ArrivalMemory ===

impl ArrivalMemory {
    fn file(&self, folder: &Path) -> PathBuf {
        // Other paths to the same folder mean the same artifacts.
        let folder = files::canonical(folder).unwrap_or_else(|_| folder.to_owned());
        self.folder.join(format!("{}.arrivals", path_key(&folder)))
    }
}

/// Returns a text that is the same while the artifact is.
fn mark_of(name: &OsStr, metadata: &fs::Metadata) -> String {
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let mut hash = Sha256::new_with_prefix(name.as_encoded_bytes());
    hash.update([0]);
    hash.update(files::inode(metadata).to_le_bytes());
    // The length of a folder depends on the file system alone.
    let length = if metadata.is_file() {
        metadata.len()
    } else {
        0
    };
    hash.update(length.to_le_bytes());
    hash.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
    finish_mark(hash)
}

fn finish_mark(hash: Sha256) -> String {
    Digest::finish(hash).hex()[..32].to_owned()
}

/// Compares names so that `app-9` comes before `app-10`.
fn compare_naturally(one: &Path, other: &Path) -> Ordering {
    let (mut one, mut other) = (name_of(one), name_of(other));
    while let (Some(&first), Some(&second)) = (one.first(), other.first()) {
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let (number, rest) = take_number(one);
            let (other_number, other_rest) = take_number(other);
            let by_value = number.len().cmp(&other_number.len());
            match by_value.then_with(|| number.cmp(other_number)) {
                Ordering::Equal => (one, other) = (rest, other_rest),
                differs @ (Ordering::Less | Ordering::Greater) => return differs,
            }
        } else if first == second {
            (one, other) = (&one[1..], &other[1..]);
        } else {
            return first.cmp(&second);
        }
    }
    one.len().cmp(&other.len())
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_encoded_bytes()
}

/// Splits the number at the start, without leading zeros, from the rest.
fn take_number(text: &[u8]) -> (&[u8], &[u8]) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let end = text.iter().position(|byte| !is_digit(byte));
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    let zeros = number.iter().take_while(|&&byte| byte == b'0').count();
    (&number[zeros..], rest)
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
    use std::time::Duration;

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

    /// Writes artifacts whose contents have these times, in seconds since 1970.
    fn write_at(folder: &Path, artifacts: &[(&str, u64)]) {
        for (name, seconds) in artifacts {
            let file = fs::File::create(folder.join(name)).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
            file.set_modified(time).unwrap();
        }
    }

    #[test]
    fn at_a_first_scan_the_latest_content_is_the_newest_and_then_the_greatest_number() {
        let folder = tempfile::tempdir().unwrap();
        write_at(folder.path(), &[("b", 20), ("a", 30), ("c", 10)]);
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "a");
        let older: Vec<_> = seen.older().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(older, ["b", "c"]);
        write_at(
            folder.path(),
            &[
                ("app-10", 99),
                ("app-9", 99),
                ("app-010a", 99),
                ("app-8.5", 99),
            ],
        );
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "app-010a");
        fs::remove_file(folder.path().join("app-010a")).unwrap();
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "app-10");
    }

    #[test]
    fn a_new_folder_in_an_older_release_makes_it_no_newer_and_a_new_file_does() {
        let folder = tempfile::tempdir().unwrap();
        let release = |name: &str| folder.path().join(name);
        for name in ["app-9", "app-10"] {
            fs::create_dir(release(name)).unwrap();
            fs::write(release(name).join("index"), name).unwrap();
        }
        let memory = tempfile::tempdir().unwrap();
        let remembered =
            || DropFolder::remembered_in(memory.path().to_owned(), TimeOfArrival::Modified);
        let mut seen = remembered();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "app-10");
        // Windows and Wine tell the files of one name apart by times that may stay or change.
        if cfg!(unix) {
            fs::create_dir_all(release("app-9").join("tmp/pids")).unwrap();
            fs::write(release("app-9").join("index~"), "of an editor").unwrap();
            assert_eq!(newest(&mut seen, folder.path()).unwrap(), "app-10");
            fs::write(release("app-9").join("index"), "in place").unwrap();
            assert_eq!(newest(&mut remembered(), folder.path()).unwrap(), "app-10");
            // As a deployer replaces files.
            fs::write(release("app-9").join("index.new"), "other").unwrap();
            fs::rename(
                release("app-9").join("index.new"),
                release("app-9").join("index"),
            )
            .unwrap();
            assert_eq!(newest(&mut seen, folder.path()).unwrap(), "app-9");
        }
    }

    #[test]
    fn the_order_of_folders_that_version_0_1_remembered_stays() {
        let folder = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir().unwrap();
        let mut order = Vec::new();
        for name in ["b", "a"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            order.push(mark_of(name.as_ref(), &fs::metadata(&path).unwrap()));
        }
        let remembered =
            || DropFolder::remembered_in(memory.path().to_owned(), TimeOfArrival::Modified);
        let file = remembered().memory.unwrap().file(folder.path());
        order.reverse();
        fs::write(file, order.join("\n")).unwrap();
        assert_eq!(newest(&mut remembered(), folder.path()).unwrap(), "b");
        assert_eq!(newest(&mut remembered(), folder.path()).unwrap(), "b");
    }

    #[cfg(unix)]
    #[test]
    fn new_rights_and_links_make_nothing_newer() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        write_at(folder.path(), &[("old", 10), ("new", 20)]);
        fs::create_dir(folder.path().join("site")).unwrap();
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "site");
        fs::hard_link(folder.path().join("new"), folder.path().join(".backup")).unwrap();
        for name in ["new", "old"] {
            let rights = fs::Permissions::from_mode(0o640);
            fs::set_permissions(folder.path().join(name), rights).unwrap();
            assert_eq!(newest(&mut seen, folder.path()).unwrap(), "site");
        }
        // Neither here nor for the next process.
        let mut next = DropFolder::default();
        assert_eq!(newest(&mut next, folder.path()).unwrap(), "site");
        write_at(folder.path(), &[("old", 11)]);
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "old");
    }

    #[test]
    fn the_order_outlives_the_process_and_an_empty_folder() {
        let both = tempfile::tempdir().unwrap();
        let (folder, memory) = (both.path().join("releases"), both.path().join("memory"));
        let start = || DropFolder::remembered_in(memory.clone(), TimeOfArrival::Modified);
        fs::create_dir(&folder).unwrap();
        write_at(&folder, &[("two", 20)]);
        let mut seen = start();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "two");
        // Somebody goes back to an older build.
        write_at(&folder, &[("one", 10)]);
        assert_eq!(newest(&mut seen, &folder).unwrap(), "one");
        let mut next = start();
        assert_eq!(newest(&mut next, &folder).unwrap(), "one");
        // What came while no process ran is newer than what is remembered.
        write_at(&folder, &[("zero", 5)]);
        assert_eq!(newest(&mut start(), &folder).unwrap(), "zero");
        assert_eq!(newest(&mut next, &folder).unwrap(), "zero");
        let elsewhere = both.path().join("unmounted");
        fs::rename(&folder, &elsewhere).unwrap();
        fs::create_dir(&folder).unwrap();
        assert_eq!(newest(&mut next, &folder), None);
        fs::remove_dir(&folder).unwrap();
        fs::rename(&elsewhere, &folder).unwrap();
        assert_eq!(newest(&mut next, &folder).unwrap(), "zero");
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
