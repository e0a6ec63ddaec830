//! The drop folder: the newest artifact in it, by arrival.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::artifact_names::{compare_naturally, is_artifact};
use super::digest::belongs_aside;
use super::names::path_key;
use crate::os::files::{self, Access, FileIdentity};
use crate::release::Digest;

/// Word that marks the artifact that serves in the file of the order.
const SERVES: &str = "serves";
/// The artifacts of a drop folder in the order of their arrival.
///
/// An artifact arrives when its name appears, or its content changes: of a file its inode, length or
/// time of modification; of a folder its inode or the files that lie directly in it. The time of
/// change (ctime) alone says nothing, since `chmod`, `chown` and a backup with hard links set it, and
/// a folder's time of modification says nothing, since a new empty folder in it sets it. Nor does one
/// arrive that gets another name, or comes back under its name after the drop folder was away.
///
/// A removal is no deployment: what is older than the artifact that serves does not take its place.
#[derive(Debug, Default)]
pub struct DropFolder {
    /// The artifacts that are known, the latest last: those that the last scan found, the one that
    /// serves, and those that may come back.
    order: Vec<Arrived>,
    /// Artifacts that the last scan found, the latest last.
    present: Vec<PathBuf>,
    /// Path at which the artifact was deployed that serves.
    serving_path: Option<PathBuf>,
    /// Mark of that artifact.
    serving: Option<String>,
    is_serving_removed: bool,
    /// Paths that were there before the drop folder was away, or empty.
    returning: Vec<PathBuf>,
    has_scanned: bool,
    memory: Option<ArrivalMemory>,
    /// Content of its file.
    remembered: String,
    /// True once a pointer file has said what to run.
    pub is_overruled: bool,
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

/// A known artifact.
#[derive(Clone, Debug)]
struct Arrived {
    mark: String,
    /// Its path, once it was found by this process.
    path: Option<PathBuf>,
    birth: Option<Birth>,
}

/// The identity of a file or folder, which it keeps under another name, and the time at which it was
/// made: identities are used again.
type Birth = (FileIdentity, SystemTime);

struct Found {
    path: PathBuf,
    mark: String,
    /// The mark of a folder as version 0.1 made it.
    former_mark: Option<String>,
    birth: Option<Birth>,
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
        let entries = fs::read_dir(folder).inspect_err(|_| self.note_absence())?;
        let is_first = !std::mem::replace(&mut self.has_scanned, true);
        let mut by = TimeOfArrival::Changed;
        if is_first || self.order.is_empty() {
            by = TimeOfArrival::Modified;
            if let (true, Some(memory)) = (is_first, &self.memory) {
                match files::read_large(&memory.file(folder)) {
                    Ok(lines) => self.recall(String::from_utf8_lossy(&lines).into_owned()),
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
            let created = metadata.created().ok();
            found.push(Found {
                path,
                mark,
                former_mark,
                birth: created.map(|created| (files::identity(&metadata), created)),
                time,
            });
        }
        // A volume that is not mounted is an empty folder.
        if found.is_empty() {
            self.note_absence();
            return Ok(None);
        }
        self.recognize(&found);
        self.put_in_order(found);
        if let Some(memory) = &self.memory {
            let file = memory.file(folder);
            self.remember(&file);
        }
        Ok(self.present.last().cloned())
    }

    /// Names the path at which the artifact was deployed that serves, if it is known.
    pub fn set_serving(&mut self, path: Option<PathBuf>) {
        let Some(path) = path else {
            return;
        };
        let mut order = self.order.iter();
        match order.rfind(|arrived| arrived.path.as_ref() == Some(&path)) {
            Some(arrived) => self.serving = Some(arrived.mark.clone()),
            // It may have another name by now.
            None if self.serving_path.as_ref() == Some(&path) => {}
            None => self.serving = None,
        }
        self.serving_path = Some(path);
    }

    /// Returns true if the last scan found only artifacts that are older than the one that serves, which
    /// was removed.
    pub fn is_serving_removed(&self) -> bool {
        self.is_serving_removed
    }

    /// Notes that the folder is away, or empty: what was in it may come back as copies.
    fn note_absence(&mut self) {
        let known = self.order.iter().filter_map(|arrived| arrived.path.clone());
        self.returning = known.collect();
        self.is_serving_removed = false;
    }

    /// Finds known artifacts under another name, and those that have come back under theirs.
    fn recognize(&mut self, found: &[Found]) {
        let paths: HashSet<&Path> = found.iter().map(|found| &*found.path).collect();
        let is_known = |order: &[Arrived], found: &Found| {
            let marks = [Some(&found.mark), found.former_mark.as_ref()];
            order.iter().any(|known| marks.contains(&Some(&known.mark)))
        };
        for found in found {
            if is_known(&self.order, found) {
                continue;
            }
            let path = Some(&found.path);
            let same_path = (self.order.iter()).position(|known| known.path.as_ref() == path);
            let known = match same_path {
                Some(known) if self.returning.contains(&found.path) => Some(known),
                Some(_) => None,
                None => self.order.iter().position(|known| {
                    let was_at = known.path.as_deref();
                    known.birth.is_some()
                        && known.birth == found.birth
                        && was_at.is_some_and(|path| !paths.contains(path))
                }),
            };
            match known {
                Some(known) => {
                    let known = &mut self.order[known];
                    if self.serving.as_ref() == Some(&known.mark) {
                        self.serving = Some(found.mark.clone());
                    }
                    known.mark.clone_from(&found.mark);
                    known.path = Some(found.path.clone());
                }
                // What comes back is complete.
                None => self.returning.clear(),
            }
            self.returning.retain(|returning| *returning != found.path);
        }
    }

    /// Puts what a scan has found behind what is known.
    fn put_in_order(&mut self, mut found: Vec<Found>) {
        let known: HashMap<&str, usize> = (self.order.iter().enumerate())
            .map(|(place, known)| (known.mark.as_str(), place))
            .collect();
        let place_of = |mark: &str| known.get(mark).copied();
        let place = |found: &Found| {
            let former = || found.former_mark.as_deref().and_then(place_of);
            place_of(&found.mark).or_else(former).unwrap_or(usize::MAX)
        };
        found.sort_by(|one, other| {
            (place(one).cmp(&place(other)))
                .then_with(|| one.time.cmp(&other.time))
                .then_with(|| compare_naturally(name_of(&one.path), name_of(&other.path)))
        });
        let paths: HashSet<&Path> = found.iter().map(|found| &*found.path).collect();
        let places: HashSet<usize> = found.iter().map(place).collect();
        let is_kept = |(place, known): &(usize, &Arrived)| {
            let path = known.path.as_ref();
            let may_return = path.is_some_and(|path| self.returning.contains(path));
            !places.contains(place)
                && !path.is_some_and(|path| paths.contains(&**path))
                && (may_return || self.serving.as_ref() == Some(&known.mark))
        };
        let kept = self.order.iter().enumerate().filter(is_kept);
        let mut order: Vec<_> = kept.map(|(place, known)| (place, known.clone())).collect();
        let serving = (order.iter()).find(|(_, kept)| self.serving.as_ref() == Some(&kept.mark));
        let newest = found.last().map_or(0, place);
        self.is_serving_removed = serving.is_some_and(|(place, _)| newest < *place);
        self.present = found.iter().map(|found| found.path.clone()).collect();
        order.extend(found.iter().map(|found| {
            let arrived = Arrived {
                mark: found.mark.clone(),
                path: Some(found.path.clone()),
                birth: found.birth,
            };
            (place(found), arrived)
        }));
        order.sort_by_key(|(place, _)| *place);
        self.order = order.into_iter().map(|(_, arrived)| arrived).collect();
    }

    /// Returns the artifacts that the last scan found and that are not the one to run, the latest first.
    pub fn older(&self) -> impl Iterator<Item = &Path> {
        let newest = usize::from(!self.is_serving_removed);
        (self.present.iter().rev().skip(newest)).map(PathBuf::as_path)
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

    /// Takes the order from the content of its file: a mark on each line, and behind it a word if that
    /// artifact serves.
    fn recall(&mut self, lines: String) {
        for line in lines.lines() {
            let (mark, word) = line.split_once(' ').unwrap_or((line, ""));
            if word == SERVES {
                self.serving = Some(mark.to_owned());
            }
            self.order.push(Arrived {
                mark: mark.to_owned(),
                path: None,
                birth: None,
            });
        }
        self.remembered = lines;
    }

    /// Writes the order to its file, if it has changed.
    fn remember(&mut self, file: &Path) {
        let mut lines = String::new();
        for Arrived { mark, .. } in &self.order {
            lines.push_str(mark);
            if self.serving.as_ref() == Some(mark) {
                lines.push(' ');
                lines.push_str(SERVES);
            }
            lines.push('\n');
        }
        if lines == self.remembered {
            return;
        }
        let folder = file.parent().unwrap_or(file);
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
        self.remembered = lines;
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

fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_encoded_bytes()
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
            "nohup.out",
            "#app#",
            "shop-1.0.jar.original",
            "shop-1.0-plain.jar",
            "shop-1.0-sources.jar",
            "app.lftp-pget-status",
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
            "4913",
            "plain.jar",
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
    fn of_equal_times_a_pre_release_comes_before_its_release() {
        for ascending in [
            &["v1.9", "v1.10"][..],
            &["1.10.0-alpha", "1.10.0-beta.2", "1.10.0-rc1", "1.10.0-rc2"],
            &["1.9.9", "1.10.0-rc10", "1.10.0", "1.10.0-1", "1.10.1"],
            &["1.10.0rc1", "1.10.0"],
            &["1.10.0~beta", "1.10.0", "1.10.0+build5"],
            &["app-2.0.0-SNAPSHOT.jar", "app-2.0.0.jar"],
            &["app-2.0.dev3.zip", "app-2.0-linux.zip", "app-2.0.zip"],
            &["1.10.0-rc1", "1.10.0-hotfix"],
            &["2026-11-9", "2026-11-30-rc", "2026-11-30"],
            &["app-spare", "app-src"],
            &["shop", "shop-prelude"],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let files: Vec<_> = ascending.iter().map(|name| (*name, 99)).collect();
            write_at(folder.path(), &files);
            let mut seen = DropFolder::default();
            let newest = newest(&mut seen, folder.path()).unwrap();
            assert_eq!(newest, *ascending.last().unwrap());
            let older = seen
                .older()
                .map(|path| path.file_name().unwrap().to_owned());
            let mut found: Vec<_> = older.collect();
            found.reverse();
            assert_eq!(found, ascending[..ascending.len() - 1]);
        }
    }

    #[test]
    fn nothing_older_takes_the_place_of_what_serves() {
        let both = tempfile::tempdir().unwrap();
        let (folder, memory) = (both.path().join("releases"), both.path().join("memory"));
        let start = || DropFolder::remembered_in(memory.clone(), TimeOfArrival::Modified);
        fs::create_dir(&folder).unwrap();
        write_at(&folder, &[("one", 10), ("two", 20), ("three", 30)]);
        let mut seen = start();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "three");
        seen.set_serving(Some(folder.join("two")));
        fs::remove_file(folder.join("three")).unwrap();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "two");
        assert!(!seen.is_serving_removed(), "it serves");
        fs::rename(folder.join("two"), both.path().join("two")).unwrap();
        // Here, in the next process, and in the one after that.
        for seen in [&mut seen, &mut start(), &mut start()] {
            newest(seen, &folder);
            assert!(seen.is_serving_removed());
            let older: Vec<_> = seen.older().map(Path::to_owned).collect();
            assert_eq!(older, [folder.join("one")], "all are");
        }
        fs::rename(both.path().join("two"), folder.join("two")).unwrap();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "two");
        assert!(!seen.is_serving_removed(), "it is back");
        fs::remove_file(folder.join("two")).unwrap();
        newest(&mut seen, &folder);
        assert!(seen.is_serving_removed());
        write_at(&folder, &[("one", 11)]);
        assert_eq!(newest(&mut seen, &folder).unwrap(), "one");
        assert!(!seen.is_serving_removed(), "another one has arrived");
    }

    #[test]
    fn a_known_artifact_of_another_name_has_its_place_and_a_replaced_one_has_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_at(folder.path(), &[("one", 10), ("two", 20)]);
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "two");
        fs::rename(path("one"), path("zero")).unwrap();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "two");
        seen.set_serving(Some(path("two")));
        // The one that serves has another name, and is removed.
        fs::rename(path("two"), path("active")).unwrap();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "active");
        seen.set_serving(Some(path("two")));
        fs::rename(path("active"), path("active.bak")).unwrap();
        newest(&mut seen, folder.path());
        assert!(seen.is_serving_removed());
        // Somebody puts the older one in the place of the newer.
        write_at(folder.path(), &[("three", 30)]);
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "three");
        seen.set_serving(Some(path("three")));
        fs::rename(path("zero"), path("three")).unwrap();
        assert_eq!(newest(&mut seen, folder.path()).unwrap(), "three");
        assert!(!seen.is_serving_removed());
    }

    #[test]
    fn what_comes_back_after_the_folder_was_away_has_its_place_whatever_comes_first() {
        let both = tempfile::tempdir().unwrap();
        let folder = both.path().join("releases");
        fs::create_dir(&folder).unwrap();
        write_at(&folder, &[("one", 10), ("two", 20), ("three", 30)]);
        let mut seen = DropFolder::default();
        assert_eq!(newest(&mut seen, &folder).unwrap(), "three");
        seen.set_serving(Some(folder.join("three")));
        fs::remove_dir_all(&folder).unwrap();
        assert!(seen.newest(&folder, None).is_err());
        fs::create_dir(&folder).unwrap();
        assert_eq!(newest(&mut seen, &folder), None);
        for name in ["two", "three", "one"] {
            write_at(&folder, &[(name, 40)]);
            newest(&mut seen, &folder);
            assert_eq!(seen.is_serving_removed(), name == "two");
        }
        assert_eq!(newest(&mut seen, &folder).unwrap(), "three");
        write_at(&folder, &[("one", 50)]);
        assert_eq!(newest(&mut seen, &folder).unwrap(), "one");
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
