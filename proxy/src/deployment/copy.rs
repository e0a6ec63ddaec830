//! Copies artifacts, and finds what in the copy still leads to the original.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek as _, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::digest::{self, Digests, Entry, EntryKind, Hashes};
use super::file_error::NameFile as _;
use crate::os::files;
use crate::os::rights::as_reader;
use crate::release::Digest;

/// Length of the start of a file that is kept: more than the first line of a script (execve(2): 255
/// characters), and than the files by which Python finds modules.
const START: usize = 64 * 1024;
/// Length of a part that is left out of a sparse file when it is all zeros.
const BLOCK: usize = 4096;

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
    /// Opening a link, or a start of the Python of an environment.
    Open,
    /// The start of this very script.
    Start,
}

/// The right to run a copied file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executable {
    /// The copy can be run.
    Yes,
    /// The copy can be run if the original can be.
    AsOriginal,
}

/// Checks that no process writes to a file, or to a file in a folder, without reading them.
///
/// # Errors
/// `WouldBlock` when a process writes to it; else the error of opening it.
pub(crate) fn check_unwritten(from: &Path) -> io::Result<()> {
    if !fs::metadata(from).reading(from)?.is_dir() {
        return files::open_unwritten(from).reading(from).map(drop);
    }
    let entries = digest::entries(from)?;
    let mut files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
    files.try_for_each(|entry| entry.open_unwritten().map(drop))
}

/// Copies a file or a folder to a new path, and returns the digest of the copy.
///
/// # Errors
/// `WouldBlock` when a process writes to the original; else the error of the system, which names
/// the file.
pub fn copy(from: &Path, to: &Path) -> io::Result<Digest> {
    let copied = if as_reader(|| fs::metadata(from)).reading(from)?.is_dir() {
        copy_folder(from, from, to)?
    } else {
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
    let source = as_reader(|| files::open_unwritten(from)).reading(from)?;
    let metadata = source.metadata().reading(from)?;
    let is_unprivileged = files::is_privileged(&source, &metadata);
    write_copy((source, from), &metadata, to, executable, &mut hashes)?;
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

/// Copies the folder `from`, known as `also_known_as` too, to a new path.
///
/// Times are kept, since bytecode caches and static file servers depend on them, and permissions
/// of folders too. Links are kept as links; one that leads out of the folder leads to the same
/// place from the copy.
pub(crate) fn copy_folder(from: &Path, also_known_as: &Path, to: &Path) -> io::Result<Copied> {
    let mut hashes = Hashes::default();
    let mut shape = Shape::default();
    let mut ways_back = Vec::new();
    let mut unprivileged = Vec::new();
    let originals = [from, also_known_as];
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    files::make_private_folder(to).writing(to)?;
    for entry in as_reader(|| digest::entries(from))? {
        let to = to.join(&entry.relative);
        let name = || entry.relative.display().to_string();
        let kind = match entry.kind {
            EntryKind::Folder => {
                files::make_private_folder(&to).writing(&to)?;
                folders.push((entry.path.clone(), to));
                shape.add_folder(&entry);
                continue;
            }
            EntryKind::Link => {
                let target = as_reader(|| fs::read_link(&entry.path)).reading(&entry.path)?;
                hashes.add_link(&entry, &target);
                let leads_out = target.is_absolute() || leaves(&entry, &target);
                let kept = link_target(&entry, from, target);
                files::make_link(&kept, &to).writing(&to)?;
                let is_inside = |path: &Path| originals.iter().any(|top| path.starts_with(top));
                let leads_back = leads_out
                    && (is_inside(&kept)
                        || as_reader(|| files::canonical(&entry.path))
                            .is_ok_and(|real| is_inside(&real)));
                leads_back.then_some(WayBackKind::Open)
            }
            EntryKind::File => {
                let source = as_reader(|| entry.open_unwritten())?;
                let metadata = source.metadata().reading(&entry.path)?;
                shape.add(&entry, &metadata);
                if files::is_privileged(&source, &metadata) {
                    unprivileged.push(name());
                }
                hashes.begin(&entry, metadata.len());
                let from = (source, &*entry.path);
                let start = write_copy(from, &metadata, &to, Executable::AsOriginal, &mut hashes)?;
                way_back(&entry.relative, &start, &originals)
            }
        };
        ways_back.extend(kind.map(|kind| WayBack { name: name(), kind }));
    }
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

/// Writes the copy of an open file, and returns the start of its content.
fn write_copy(
    (mut source, from): (File, &Path),
    metadata: &Metadata,
    to: &Path,
    executable: Executable,
    hashes: &mut Hashes,
) -> io::Result<Vec<u8>> {
    let mut sink = Sink {
        file: files::create_private(to).writing(to)?,
        start: Vec::new(),
        is_sparse: files::is_sparse(metadata),
    };
    let length = digest::transfer((&mut source, from), hashes, (&mut sink, to))?;
    if sink.is_sparse {
        sink.file.set_len(length).writing(to)?;
    }
    if let Ok(modified) = metadata.modified() {
        // Best effort: the content matters.
        let _ = sink.file.set_modified(modified);
    }
    drop(sink.file);
    files::copy_mode(metadata, to, executable == Executable::Yes).writing(to)?;
    Ok(sink.start)
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

/// Returns the way in which a file leads back: as a script whose first line names an interpreter in
/// the original, or as a file by which Python finds modules in it.
fn way_back(name: &Path, start: &[u8], originals: &[&Path]) -> Option<WayBackKind> {
    let name = name.file_name()?.to_string_lossy();
    let finds_modules = [".pth", ".egg-link"].iter().any(|end| name.ends_with(end))
        || name.starts_with("__editable__")
        || name == "direct_url.json";
    // It puts the folder of its environment into PATH.
    let is_sourced = name.to_lowercase().starts_with("activate");
    if !finds_modules && !is_sourced && !start.starts_with(b"#!") {
        return None;
    }
    let text = String::from_utf8_lossy(start);
    let text = if finds_modules || is_sourced {
        &text
    } else {
        text.lines().next().unwrap_or_default()
    };
    // Of a module that is not editable, it is a mere note.
    if name == "direct_url.json" && !text.contains("\"editable\": true") {
        return None;
    }
    let is_meant = |original: &str| {
        let mut ends = text.match_indices(original);
        // `/srv/site-2` is not in `/srv/site`.
        ends.any(|(at, _)| {
            let end = &text[at + original.len()..];
            !end.starts_with(|c: char| c.is_alphanumeric() || "-_.".contains(c))
        })
    };
    let kind = if finds_modules {
        WayBackKind::Open
    } else {
        WayBackKind::Start
    };
    let mut originals = originals.iter().filter_map(|original| original.to_str());
    originals.any(is_meant).then_some(kind)
}

/// The hash of the rights to be run and of the folders.
#[derive(Default)]
struct Shape(Sha256);

/// A writer to a file that keeps the start of a text, and leaves the holes of a sparse file.
struct Sink {
    file: File,
    start: Vec<u8>,
    is_sparse: bool,
}

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

// === impl Sink ===

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let is_empty = |block: &[u8]| block.iter().all(|&byte| byte == 0);
        let n = if self.is_sparse {
            let is_hole = is_empty(&buffer[..buffer.len().min(BLOCK)]);
            let same = buffer
                .chunks(BLOCK)
                .take_while(|block| is_empty(block) == is_hole);
            let n = same.map(<[u8]>::len).sum();
            if is_hole {
                self.file.seek_relative(n as i64)?;
                n
            } else {
                self.file.write(&buffer[..n])?
            }
        } else {
            self.file.write(buffer)?
        };
        let wanted = START.saturating_sub(self.start.len()).min(n);
        self.start.extend(&buffer[..wanted]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
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
            copy_folder(&self.from, &self.from, &self.to).unwrap()
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
        for (name, content) in [
            ("env", format!("#!{original}/venv/bin/python -E\nmain()")),
            (
                "shell",
                format!("#!/bin/sh\n'''exec' \"{original}/python\""),
            ),
            ("other", format!("#!{original}-2/python\n")),
            ("text", format!("see #!{original}/x\n")),
            ("endless", format!("#!{}", "x".repeat(5000))),
        ] {
            fs::write(folders.from.join(name), content).unwrap();
        }
        assert_eq!(names(&folders.copy()), ["env"]);
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
        for (name, content) in [
            ("_shop.pth", src.display().to_string()),
            ("other.pth", format!("{}-2/src", folders.from.display())),
            (
                "__editable___shop_finder.py",
                format!("MAPPING = {{'shop': '{}'}}", src.display()),
            ),
            ("shop.egg-link", src.display().to_string()),
            (
                "direct_url.json",
                format!("{url}, \"dir_info\": {{\"editable\": true}}}}"),
            ),
            ("notes.txt", src.display().to_string()),
        ] {
            fs::write(folders.from.join(name), content).unwrap();
        }
        fs::create_dir(folders.from.join("built")).unwrap();
        fs::write(
            folders.from.join("built/direct_url.json"),
            format!("{url}}}"),
        )
        .unwrap();
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
            "direct_url.json",
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
            ("private/sub", 0o755),
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
