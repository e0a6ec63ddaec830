//! Copies artifacts, and finds what in the copy still leads to the original.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::digest::{self, Entry, EntryKind};
use crate::os::files;
use crate::release::Digest;

/// Maximum length of the first line of a script (execve(2): 255 characters).
const LONGEST_LINE: usize = 256;

/// A finished copy.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Digest of the copy.
    pub(crate) digest: Digest,
    /// Scripts and links in it that lead into the original, by their names.
    pub(crate) leads_back: Vec<String>,
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
    if !fs::metadata(from)?.is_dir() {
        return files::open_unwritten(from).map(drop);
    }
    let entries = digest::entries(from)?;
    let mut files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
    files.try_for_each(|entry| files::open_unwritten(&entry.path).map(drop))
}

/// Copies a file or a folder to a new path, and returns the digest of the copy.
///
/// # Errors
/// `WouldBlock` when a process writes to the original; else the error of the system.
pub fn copy(from: &Path, to: &Path) -> io::Result<Digest> {
    let copied = if fs::metadata(from)?.is_dir() {
        copy_folder(from, from, to)?
    } else {
        copy_file(from, to, Executable::Yes)?
    };
    Ok(copied.digest)
}

/// Copies a file to a new path.
pub(crate) fn copy_file(from: &Path, to: &Path, executable: Executable) -> io::Result<Copied> {
    let mut hash = Sha256::new();
    let mut source = files::open_unwritten(from)?;
    let metadata = source.metadata()?;
    let mut sink = File::create_new(to)?;
    digest::transfer(&mut source, &mut hash, &mut sink)?;
    drop(sink);
    files::copy_mode(&metadata, to, executable == Executable::Yes)?;
    Ok(Copied {
        digest: Digest::finish(hash),
        leads_back: Vec::new(),
    })
}

/// Copies the folder `from`, known as `also_known_as` too, to a new path.
///
/// Times are kept, since bytecode caches and static file servers depend on them. Links are kept as
/// links; one that leads out of the folder leads to the same place from the copy.
pub(crate) fn copy_folder(from: &Path, also_known_as: &Path, to: &Path) -> io::Result<Copied> {
    let mut hash = Sha256::new();
    let mut leads_back = Vec::new();
    let originals = [from, also_known_as];
    fs::create_dir(to)?;
    for entry in digest::entries(from)? {
        let to = to.join(&entry.relative);
        match entry.kind {
            EntryKind::Folder => fs::create_dir(&to)?,
            EntryKind::Link => {
                digest::hash_link(&mut hash, &entry)?;
                let target = link_target(&entry, from)?;
                files::make_link(&target, &to)?;
                if originals
                    .iter()
                    .any(|original| target.starts_with(original))
                {
                    leads_back.push(entry.relative.display().to_string());
                }
            }
            EntryKind::File => {
                let first_line = copy_entry(&entry, &to, &mut hash)?;
                if is_script_of(&first_line, &originals) {
                    leads_back.push(entry.relative.display().to_string());
                }
            }
        }
    }
    Ok(Copied {
        digest: Digest::finish(hash),
        leads_back,
    })
}

/// Copies a file of a folder, and returns the start of its first line.
fn copy_entry(entry: &Entry, to: &Path, hash: &mut Sha256) -> io::Result<Vec<u8>> {
    let mut source = files::open_unwritten(&entry.path)?;
    let metadata = source.metadata()?;
    digest::hash_name(hash, entry, metadata.len());
    let mut sink = FirstLine {
        file: File::create_new(to)?,
        line: Vec::new(),
    };
    digest::transfer(&mut source, hash, &mut sink)?;
    if let Ok(modified) = metadata.modified() {
        // Best effort: the content matters.
        let _ = sink.file.set_modified(modified);
    }
    let FirstLine { file, line } = sink;
    drop(file);
    files::copy_mode(&metadata, to, false)?;
    Ok(line)
}

/// Returns the target of a link in the copy.
fn link_target(entry: &Entry, top: &Path) -> io::Result<PathBuf> {
    let target = fs::read_link(&entry.path)?;
    // A link that leads nowhere is kept as it is.
    let leads_out = files::canonical(&entry.path).is_ok_and(|real| !real.starts_with(top));
    if !leads_out || target.is_absolute() {
        return Ok(target);
    }
    // The folders above the link are no links, so `..` removes a name.
    let mut folder = entry.path.parent().unwrap_or(top);
    let mut rest = target.as_path();
    while let Ok(after) = rest.strip_prefix("..") {
        folder = folder.parent().unwrap_or(folder);
        rest = after;
    }
    Ok(folder.join(rest))
}

/// Returns true if a first line names an interpreter in the original.
fn is_script_of(line: &[u8], originals: &[&Path]) -> bool {
    let Some(interpreter) = line.strip_prefix(b"#!") else {
        return false;
    };
    let interpreter = String::from_utf8_lossy(interpreter);
    let mut words = interpreter.split_whitespace();
    // `/usr/bin/env` or a shell may precede the interpreter.
    words.any(|word| {
        let path = Path::new(word.trim_matches(['"', '\'']));
        originals.iter().any(|original| path.starts_with(original))
    })
}

/// A writer to a file that keeps the start of the first line.
struct FirstLine {
    file: File,
    line: Vec<u8>,
}

// === impl FirstLine ===

impl Write for FirstLine {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buffer)?;
        let wanted = LONGEST_LINE.saturating_sub(self.line.len()).min(n);
        let starts_a_script = !self.line.is_empty() || buffer.starts_with(b"#!");
        if starts_a_script && !self.line.contains(&b'\n') {
            let end = buffer[..wanted].iter().position(|&byte| byte == b'\n');
            let end = end.map_or(wanted, |end| end + 1);
            self.line.extend(&buffer[..end]);
        }
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
        assert_eq!(folders.copy().leads_back, ["env"]);
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
        assert_eq!(copied.leads_back, ["back"]);
        assert_eq!(copied.digest, digest::digest(&folders.from).unwrap());
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
        let copied = fs::metadata(folders.to.join("run")).unwrap();
        assert_eq!(copied.permissions().mode() & 0o777, 0o750);
        assert_eq!(copied.modified().unwrap(), SystemTime::UNIX_EPOCH);
    }
}
