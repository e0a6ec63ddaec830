//! Copies artifacts, and finds what in the copy still leads to the original.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::digest::{self, Digests, Entry, EntryKind, Hashes};
use super::file_error::NameFile as _;
use super::transfer::{CopiedFiles, Executable, copy_content};
use crate::os::files::{self, Writers};
use crate::os::rights::as_reader;
use crate::release::Digest;

/// Number of looks for a process that writes to a file, before the file is taken for unfinished.
const WRITER_LOOKS: u32 = 20;

/// Time between two of these looks.
const WRITER_PAUSE: Duration = Duration::from_millis(5);

/// A finished copy.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Digests of the copy.
    pub(crate) digests: Digests,
    /// Hash of what is not in the digests: the rights to be run, and empty folders.
    pub(crate) shape: String,
    /// Entries that lead into the original.
    pub(crate) ways_back: Vec<WayBack>,
    /// Programs that lose file capabilities or the right to act as their owner, by their names.
    pub(crate) unprivileged: Vec<String>,
}

/// An entry of a copy that leads into the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WayBack {
    pub(crate) name: String,
    pub(crate) kind: WayBackKind,
}

/// The condition on which a process takes a way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayBackKind {
    /// The use of a link.
    Link,
    /// A start of the Python, Ruby or PHP of an environment.
    Open,
    /// The start of this very script, which names a path in the original.
    Start,
}

/// Checks that no process writes to a file, or to one of a folder's `entries`, without reading them.
///
/// # Errors
/// `WouldBlock` when a process writes to it; else the error of opening it.
pub(crate) fn check_unwritten(from: &Path, entries: &[Entry]) -> io::Result<()> {
    let is_read = |entry: &&Entry| entry.kind == EntryKind::File && !entry.is_aside;
    let files = entries.iter().filter(is_read);
    let files = files.map(|entry| &*entry.path);
    let top = if fs::metadata(from).reading(from)?.is_dir() {
        None
    } else {
        Some(from)
    };
    let mut unknown = HashMap::new();
    for path in top.into_iter().chain(files) {
        match look_until_unwritten(|| files::look_for_writers(path)).reading(path)? {
            Writers::Absent => {}
            Writers::Present => return Err(io::ErrorKind::WouldBlock.into()).reading(path),
            Writers::Unknown => {
                let metadata = fs::metadata(path).reading(path)?;
                unknown.insert(files::identity(&metadata), path);
            }
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let open = files::open_for_writing();
    match unknown.iter().find(|(file, _)| open.contains(file)) {
        Some((_, path)) => Err(io::ErrorKind::WouldBlock.into()).reading(path),
        None => Ok(()),
    }
}

/// Looks for writers of a file by `look` until there is none, a few times: a virus scanner, or a child
/// process between its fork and the start of its program, has a file open for a moment only.
fn look_until_unwritten(mut look: impl FnMut() -> io::Result<Writers>) -> io::Result<Writers> {
    for _ in 1..WRITER_LOOKS {
        match look()? {
            Writers::Present => thread::sleep(WRITER_PAUSE),
            found @ (Writers::Absent | Writers::Unknown) => return Ok(found),
        }
    }
    look()
}

/// Copies a file or a folder to a new path, and returns the digest of the copy.
///
/// # Errors
/// `WouldBlock` when a process writes to the original; else the error of the system, which names
/// the file.
pub fn copy(from: &Path, to: &Path) -> io::Result<Digest> {
    let copied = if as_reader(|| fs::metadata(from)).reading(from)?.is_dir() {
        let entries = as_reader(|| digest::entries(from))?;
        as_reader(|| check_unwritten(from, &entries))?;
        let copied = copy_folder(from, from, &entries, to)?;
        // Whoever deploys removes it some day, with the tools of the system.
        files::make_changeable(to).writing(to)?;
        copied
    } else {
        as_reader(|| check_unwritten(from, &[]))?;
        copy_file(from, to, Executable::Yes)?
    };
    Ok(copied.digests.whole)
}

/// Returns the shape of an artifact that runs in place, as [`Copied`] has it.
pub(crate) fn shape(path: &Path) -> io::Result<String> {
    let mut shape = Shape::default();
    let top = fs::metadata(path).reading(path)?;
    if top.is_dir() {
        for entry in digest::entries(path)? {
            let metadata = fs::symlink_metadata(&entry.path).reading(&entry.path)?;
            shape.add(&entry, &metadata);
        }
    } else {
        shape.0.update([u8::from(files::is_executable(&top))]);
    }
    Ok(shape.finish())
}

/// Copies a file to a new path, with its time and permissions.
pub(crate) fn copy_file(from: &Path, to: &Path, executable: Executable) -> io::Result<Copied> {
    let mut hashes = Hashes::default();
    let source = as_reader(|| files::open_for_reading(from)).reading(from)?;
    let metadata = source.metadata().reading(from)?;
    let is_unprivileged = files::is_privileged(&source, &metadata);
    copy_content((source, from), &metadata, to, executable, &mut hashes)?;
    let name = || from.file_name().unwrap_or_default().to_string_lossy();
    Ok(Copied {
        digests: hashes.finish(),
        shape: Shape::default().finish(),
        ways_back: Vec::new(),
        unprivileged: is_unprivileged
            .then(|| name().into_owned())
            .into_iter()
            .collect(),
    })
}

/// Copies the folder `from`, known as `also_known_as` too, with these entries to a new path.
///
/// Times are kept, since bytecode caches and static file servers depend on them, and permissions
/// of folders too. Links are kept as links; one that leads out of the folder leads to the same
/// place from the copy.
pub(crate) fn copy_folder(
    from: &Path,
    also_known_as: &Path,
    entries: &[Entry],
    to: &Path,
) -> io::Result<Copied> {
    let mut hashes = Hashes::default();
    let mut shape = Shape::default();
    let mut ways_back = Vec::new();
    let mut unprivileged = Vec::new();
    let originals = [from, also_known_as];
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    let is_folder = |entry: &&Entry| entry.kind == EntryKind::Folder;
    folders.extend(
        (entries.iter().filter(is_folder))
            .map(|entry| (entry.path.clone(), to.join(&entry.relative))),
    );
    for (_, to) in &folders {
        files::make_private_folder(to).writing(to)?;
    }
    thread::scope(|scope| -> io::Result<()> {
        let mut copied = CopiedFiles::begin(scope, entries, to);
        for entry in entries {
            let to = to.join(&entry.relative);
            let name = || entry.relative.display().to_string();
            let kind = match entry.kind {
                EntryKind::Folder => {
                    shape.add_folder(entry);
                    continue;
                }
                EntryKind::Link => {
                    let target = as_reader(|| fs::read_link(&entry.path)).reading(&entry.path)?;
                    hashes.add_link(entry, &target);
                    let leads_out = target.is_absolute() || leaves(entry, &target);
                    let kept = link_target(entry, from, target);
                    files::make_link(&kept, &to).writing(&to)?;
                    let is_inside = |path: &Path| originals.iter().any(|top| path.starts_with(top));
                    let leads_back = leads_out
                        && (is_inside(&kept)
                            || as_reader(|| files::canonical(&entry.path))
                                .is_ok_and(|real| is_inside(&real)));
                    leads_back.then_some(WayBackKind::Link)
                }
                EntryKind::File => {
                    let file = copied.next()?;
                    shape.add(entry, &file.metadata);
                    if file.is_privileged {
                        unprivileged.push(name());
                    }
                    let start = file.hash(entry, &to, &mut hashes)?;
                    way_back(&entry.relative, &start, &originals)
                }
            };
            ways_back.extend(kind.map(|kind| WayBack { name: name(), kind }));
        }
        Ok(())
    })?;
    // The deepest first: what is made in a folder changes its time.
    for (from, to) in folders.iter().rev() {
        let metadata = as_reader(|| fs::metadata(from)).reading(from)?;
        let modified = metadata.modified().ok();
        files::finish_folder(to, files::mode(&metadata), modified).writing(to)?;
    }
    Ok(Copied {
        digests: hashes.finish(),
        shape: shape.finish(),
        ways_back,
        unprivileged,
    })
}

/// Returns the target of a link in the copy: absolute, if its own next step leads out of the
/// folder. Where that leads further is no matter of this link.
fn link_target(entry: &Entry, top: &Path, target: PathBuf) -> PathBuf {
    if target.is_absolute() || !leaves(entry, &target) {
        return target;
    }
    // The folders above the link are no links, so `..` removes a name.
    let mut folder = entry.path.parent().unwrap_or(top);
    let mut rest = target.as_path();
    while let Ok(after) = rest.strip_prefix("..") {
        folder = folder.parent().unwrap_or(folder);
        rest = after;
    }
    folder.join(rest)
}

/// Returns true if the relative target of a link is outside of the folder of the artifact.
fn leaves(entry: &Entry, target: &Path) -> bool {
    let mut depth = entry.relative.components().count() - 1;
    !target.components().all(|component| {
        match component {
            Component::ParentDir if depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        true
    })
}

/// Returns the way in which a file leads back: as a script that names the original, or as a file by
/// which Python, Ruby or PHP finds files in it.
fn way_back(name: &Path, start: &[u8], originals: &[&Path]) -> Option<WayBackKind> {
    // Of bundler, and of Laravel after `artisan config:cache`.
    let has_paths = [".bundle/config", "bootstrap/cache/config.php"];
    let has_paths = has_paths.iter().any(|end| name.ends_with(end));
    let name = name.file_name()?.to_string_lossy();
    let finds_modules = [".pth", ".egg-link"].iter().any(|end| name.ends_with(end))
        || name.starts_with("__editable__")
        || name == "direct_url.json"
        || has_paths;
    // It puts the folder of its environment into PATH.
    let is_sourced = name.to_lowercase().starts_with("activate");
    let is_environment = name == "pyvenv.cfg";
    if !(finds_modules || is_sourced || is_environment || start.starts_with(b"#!")) {
        return None;
    }
    let text = String::from_utf8_lossy(start);
    // Of a module that is not editable, it is a mere note.
    if name == "direct_url.json" && !text.contains("\"editable\": true") {
        return None;
    }
    let is_interpreter = || {
        let first = text.lines().next().and_then(|line| line.strip_prefix("#!"));
        let folder = Path::new(first?.split_whitespace().next()?).parent()?;
        // Another path to the original; what the interpreter is a link to does not matter.
        let folder = as_reader(|| files::canonical(folder)).ok()?;
        Some(
            originals
                .iter()
                .any(|original| folder.starts_with(original)),
        )
    };
    let leads_back = if is_environment {
        // The other lines are notes of how it was made.
        let home = text.lines().find(|line| line.starts_with("home"));
        home.is_some_and(|home| names_any(home, originals))
    } else if finds_modules || is_sourced {
        names_any(&text, originals)
    } else {
        script_names_any(&text, originals) || is_interpreter() == Some(true)
    };
    let kind = if finds_modules || is_environment {
        WayBackKind::Open
    } else {
        WayBackKind::Start
    };
    leads_back.then_some(kind)
}

/// Returns true if a script names a path in one of these folders, in its first line or in one that is no
/// comment.
pub(crate) fn script_names_any(script: &str, folders: &[&Path]) -> bool {
    let mut lines = script.lines().enumerate();
    lines.any(|(number, line)| {
        let is_comment = number > 0 && line.trim_start().starts_with('#');
        !is_comment && names_any(line, folders)
    })
}

/// Returns true if a text names one of these folders, or a path in it.
pub(crate) fn names_any(text: &str, folders: &[&Path]) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let is_named = |folder: &str| {
        let mut places = text.match_indices(folder);
        // `/srv/site-2` is not in `/srv/site`, nor is `/old/srv/site`.
        places.any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + folder.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    };
    let mut folders = folders.iter().filter_map(|folder| folder.to_str());
    folders.any(is_named)
}

/// The hash of the rights to be run and of the folders.
#[derive(Default)]
struct Shape(Sha256);

// === impl Shape ===

impl Shape {
    fn add(&mut self, entry: &Entry, metadata: &Metadata) {
        if metadata.is_dir() {
            self.add_folder(entry);
        } else if metadata.is_file() && files::is_executable(metadata) {
            self.add_name(b"x", entry);
        }
    }

    /// Adds a folder. Those with files in them are in the digest too, and cannot differ.
    fn add_folder(&mut self, entry: &Entry) {
        self.add_name(b"d", entry);
    }

    fn add_name(&mut self, kind: &[u8], entry: &Entry) {
        if !entry.is_aside {
            self.0.update(kind);
            self.0.update(&entry.name);
            self.0.update([0]);
        }
    }

    fn finish(self) -> String {
        Digest::finish(self.0).hex()[..16].to_owned()
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs::File;
    use std::io::{Seek as _, Write as _};

    use super::*;

    struct Folders {
        _both: tempfile::TempDir,
        from: PathBuf,
        to: PathBuf,
    }

    fn folders() -> Folders {
        let both = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(both.path()).unwrap();
        let from = root.join("from");
        fs::create_dir(&from).unwrap();
        Folders {
            _both: both,
            from,
            to: root.join("deeper").join("to"),
        }
    }

    // === impl Folders ===

    impl Folders {
        fn copy(&self) -> Copied {
            fs::create_dir_all(self.to.parent().unwrap()).unwrap();
            let entries = digest::entries(&self.from).unwrap();
            copy_folder(&self.from, &self.from, &entries, &self.to).unwrap()
        }
    }

    fn names(copied: &Copied) -> Vec<&str> {
        let ways = copied.ways_back.iter();
        ways.map(|way| way.name.as_str()).collect()
    }

    #[test]
    fn a_script_that_leads_back_into_the_original_is_noticed() {
        let folders = folders();
        let original = folders.from.display();
        fs::create_dir(folders.from.join("bin")).unwrap();
        let link = folders.from.with_file_name("current");
        std::os::unix::fs::symlink(&folders.from, &link).unwrap();
        for (name, content) in [
            ("env", format!("#!{original}/venv/bin/python -E\nmain()")),
            (
                "long",
                format!("#!/bin/sh\n'''exec' \"{original}/python\" \"$0\" \"$@\"\n' '''"),
            ),
            (
                "wrapper",
                format!("#!/usr/bin/env bash\n  exec {original}/venv/bin/python app.py"),
            ),
            ("link", format!("#!{}/bin/python", link.display())),
            ("comment", format!("#!/bin/sh\n# {original}/x\nexec app")),
            ("below", format!("#!/bin/sh\nexec /old{original}/app")),
            ("other", format!("#!{original}-2/python\n")),
            ("text", format!("see #!{original}/x\n")),
            ("endless", format!("#!{}", "x".repeat(5000))),
        ] {
            fs::write(folders.from.join(name), content).unwrap();
        }
        assert_eq!(names(&folders.copy()), ["env", "link", "long", "wrapper"]);
    }

    #[test]
    fn a_copy_whose_folders_cannot_be_changed_can_be_removed() {
        use std::os::unix::fs::PermissionsExt as _;

        let folders = folders();
        let deep = folders.from.join("closed/deep");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "content").unwrap();
        for folder in [&*deep, &*folders.from.join("closed"), &*folders.from] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
        }
        folders.copy();
        let mode = |path: &Path| files::mode(&fs::metadata(path).unwrap());
        assert_eq!(mode(&folders.to), 0o500);
        files::remove_tree(&folders.to).unwrap();
        // What `handoff deploy` copies belongs to whoever deploys.
        copy(&folders.from, &folders.to).unwrap();
        assert_eq!(mode(&folders.to.join("closed/deep")), 0o700);
        files::make_changeable(&folders.from).unwrap();
    }

    #[test]
    fn links_stay_links_and_lead_where_they_led() {
        use std::os::unix::fs::symlink;

        let folders = folders();
        let outside = folders.from.with_file_name("shared");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("data"), "shared").unwrap();
        fs::write(folders.from.join("file"), "inside").unwrap();
        symlink("file", folders.from.join("inside")).unwrap();
        symlink("../shared", folders.from.join("outside")).unwrap();
        symlink("nowhere", folders.from.join("dangling")).unwrap();
        symlink(folders.from.join("file"), folders.from.join("back")).unwrap();
        let copied = folders.copy();
        let target = |name| fs::read_link(folders.to.join(name)).unwrap();
        assert_eq!(target("inside"), Path::new("file"));
        assert_eq!(target("dangling"), Path::new("nowhere"));
        let read = fs::read_to_string(folders.to.join("outside/data")).unwrap();
        assert_eq!(read, "shared");
        assert_eq!(names(&copied), ["back"]);
        assert_eq!(copied.digests, digest::digests(&folders.from).unwrap());
    }

    #[test]
    fn a_chain_of_links_stays_in_the_copy_up_to_the_one_that_leaves_it() {
        use std::os::unix::fs::symlink;

        let folders = folders();
        let outside = folders.from.with_file_name("python3");
        fs::write(&outside, "outside").unwrap();
        let bin = folders.from.join("venv/bin");
        fs::create_dir_all(&bin).unwrap();
        symlink("python3", bin.join("python")).unwrap();
        symlink(&outside, bin.join("python3")).unwrap();
        symlink("../../../python3", bin.join("python3.11")).unwrap();
        symlink("../bin/python", bin.join("python4")).unwrap();
        symlink("../../../from/venv/bin/python", bin.join("round")).unwrap();
        let copied = folders.copy();
        assert_eq!(names(&copied), ["venv/bin/round"]);
        fs::rename(&folders.from, folders.from.with_file_name("gone")).unwrap();
        for (name, target) in [
            ("python", Path::new("python3")),
            ("python3", &outside),
            ("python3.11", &outside),
            ("python4", Path::new("../bin/python")),
        ] {
            let link = folders.to.join("venv/bin").join(name);
            assert_eq!(fs::read_link(&link).unwrap(), target);
            assert_eq!(fs::read_to_string(link).unwrap(), "outside");
        }
    }

    #[test]
    fn files_by_which_python_finds_modules_in_the_original_are_noticed() {
        let folders = folders();
        let src = folders.from.join("src");
        let url = format!("{{\"url\": \"file://{}\"", folders.from.display());
        fs::create_dir_all(folders.from.join("bootstrap/cache")).unwrap();
        for (name, content) in [
            ("_shop.pth", src.display().to_string()),
            ("other.pth", format!("{}-2/src", folders.from.display())),
            (
                "__editable___shop_finder.py",
                format!("MAPPING = {{'shop': '{}'}}", src.display()),
            ),
            ("shop.egg-link", src.display().to_string()),
            (
                "bootstrap/cache/config.php",
                format!("'views' => '{}/views',", folders.from.display()),
            ),
            (
                "direct_url.json",
                format!("{url}, \"dir_info\": {{\"editable\": true}}}}"),
            ),
            ("notes.txt", src.display().to_string()),
            (
                "pyvenv.cfg",
                format!("home = {}/python/bin\n", folders.from.display()),
            ),
        ] {
            fs::write(folders.from.join(name), content).unwrap();
        }
        fs::create_dir(folders.from.join("built")).unwrap();
        fs::write(
            folders.from.join("built/direct_url.json"),
            format!("{url}}}"),
        )
        .unwrap();
        let notes = format!(
            "home = /usr/bin\ncommand = python3 -m venv {}",
            src.display()
        );
        fs::write(folders.from.join("built/pyvenv.cfg"), notes).unwrap();
        let copied = folders.copy();
        assert!(
            copied
                .ways_back
                .iter()
                .all(|way| way.kind == WayBackKind::Open)
        );
        let expected = [
            "__editable___shop_finder.py",
            "_shop.pth",
            "bootstrap/cache/config.php",
            "direct_url.json",
            "pyvenv.cfg",
            "shop.egg-link",
        ];
        assert_eq!(names(&copied), expected);
    }

    #[test]
    fn folders_keep_their_permissions_and_times() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        use std::time::SystemTime;

        let folders = folders();
        for (name, mode) in [
            ("private", 0o700),
            ("private/sub", 0o555),
            ("uploads", 0o2770),
        ] {
            let path = folders.from.join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(folders.from.join("private/key"), "x").unwrap();
        for name in ["", "private", "private/sub", "uploads"] {
            let folder = File::open(folders.from.join(name)).unwrap();
            folder.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        folders.copy();
        for (name, mode) in [
            ("private", 0o700),
            ("private/sub", 0o555),
            ("uploads", 0o2770),
        ] {
            let copied = fs::metadata(folders.to.join(name)).unwrap();
            assert_eq!(copied.mode() & 0o7777, mode, "{name}");
            assert_eq!(copied.modified().unwrap(), SystemTime::UNIX_EPOCH, "{name}");
        }
        let top = fs::metadata(&folders.to).unwrap();
        assert_eq!(top.modified().unwrap(), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn holes_stay_holes_and_the_content_is_the_same() {
        use std::io::SeekFrom;
        use std::os::unix::fs::MetadataExt as _;

        let folders = folders();
        let path = folders.from.join("disk");
        let mut disk = File::create(&path).unwrap();
        disk.write_all(b"start").unwrap();
        disk.seek(SeekFrom::Start(16 << 20)).unwrap();
        disk.write_all(b"middle").unwrap();
        disk.set_len(64 << 20).unwrap();
        drop(disk);
        folders.copy();
        let copy = folders.to.join("disk");
        assert_eq!(fs::read(&copy).unwrap(), fs::read(&path).unwrap());
        let used = fs::metadata(&copy).unwrap().blocks() * 512;
        assert!(used < 1 << 20, "{used} bytes");
    }

    #[test]
    fn a_writer_of_a_moment_is_none() {
        let looks = |written: u32| {
            let mut looks = 0;
            let found = look_until_unwritten(|| {
                looks += 1;
                Ok(if looks <= written {
                    Writers::Present
                } else {
                    Writers::Absent
                })
            });
            (found.unwrap(), looks)
        };
        assert_eq!(looks(0), (Writers::Absent, 1));
        assert_eq!(looks(3), (Writers::Absent, 4));
        assert_eq!(looks(u32::MAX), (Writers::Present, WRITER_LOOKS));
    }

    /// A file that is on no file system of a disk: no lease proves anything there.
    #[cfg(target_os = "linux")]
    #[test]
    fn where_no_lease_is_possible_writers_are_looked_for_in_proc() {
        let path = Path::new("/proc/self/comm");
        assert_eq!(files::look_for_writers(path).unwrap(), Writers::Unknown);
        let reader = File::open(path).unwrap();
        check_unwritten(path, &[]).unwrap();
        let writer = File::options().write(true).open(path).unwrap();
        let error = check_unwritten(path, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().contains("/proc/self/comm"), "{error}");
        drop((reader, writer));
        check_unwritten(path, &[]).unwrap();
    }

    #[test]
    fn an_error_names_the_file_and_the_side() {
        let folders = folders();
        fs::write(folders.from.join("file"), "x").unwrap();
        fs::create_dir_all(folders.to.join("file")).unwrap();
        let error = copy_file(
            &folders.from.join("file"),
            &folders.to.join("file"),
            Executable::Yes,
        );
        let said = error.unwrap_err().to_string();
        let start = format!("cannot write {}: ", folders.to.join("file").display());
        assert!(said.starts_with(&start), "{said}");
        let missing = folders.from.join("missing");
        let said = copy(&missing, &folders.to).unwrap_err().to_string();
        let start = format!("cannot read {}: ", missing.display());
        assert!(said.starts_with(&start), "{said}");
    }

    #[test]
    fn names_that_are_no_text_are_kept() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let folders = folders();
        let name = OsStr::from_bytes(b"gr\xf6\xdfe");
        fs::write(folders.from.join(name), "x").unwrap();
        folders.copy();
        assert!(folders.to.join(name).is_file());
    }

    #[test]
    fn times_and_the_right_to_be_run_are_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        use std::time::SystemTime;

        let folders = folders();
        let file = folders.from.join("run");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).unwrap();
        let open = File::options().write(true).open(&file).unwrap();
        open.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(open);
        folders.copy();
        let alone = folders.to.with_file_name("alone");
        copy_file(&file, &alone, Executable::AsOriginal).unwrap();
        for copy in [folders.to.join("run"), alone] {
            let copied = fs::metadata(copy).unwrap();
            assert_eq!(copied.permissions().mode() & 0o777, 0o750);
            assert_eq!(copied.modified().unwrap(), SystemTime::UNIX_EPOCH);
        }
    }
}
