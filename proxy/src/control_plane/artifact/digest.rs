//! The digest of a file or a folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::release::Digest;

const BUFFER: usize = 64 * 1024;

/// One entry of a folder, by its path from there, with `/` on every system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) kind: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryKind {
    Folder,
    File,
    Link,
}

/// The digest of what is at `path`: a file's content, or a folder's sorted paths, lengths and
/// contents.
///
/// # Errors
/// What reading it said.
pub fn digest(path: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    if fs::metadata(path)?.is_dir() {
        for entry in entries(path)? {
            match entry.kind {
                EntryKind::Folder => {}
                EntryKind::Link => hash_link(&mut hash, &entry)?,
                EntryKind::File => {
                    let mut file = File::open(&entry.path)?;
                    hash_name(&mut hash, &entry, file.metadata()?.len());
                    transfer(&mut file, &mut hash, &mut io::sink())?;
                }
            }
        }
    } else {
        transfer(&mut File::open(path)?, &mut hash, &mut io::sink())?;
    }
    Ok(Digest::finish(hash))
}

/// Everything in a folder, folders before what is in them, in the order in which it is hashed.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let file_type = entry.file_type()?;
            let kind = if file_type.is_symlink() {
                EntryKind::Link
            } else if file_type.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
                EntryKind::Folder
            } else if file_type.is_file() {
                EntryKind::File
            } else {
                // A socket, a pipe or a device is no content.
                continue;
            };
            entries.push(Entry {
                name,
                path: entry.path(),
                kind,
            });
        }
    }
    entries.sort();
    Ok(entries)
}

/// Copies to `sink` what it hashes, so that the digest is that of the copy.
pub(super) fn transfer(
    source: &mut impl Read,
    hash: &mut Sha256,
    sink: &mut impl Write,
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => {
                hash.update(&buffer[..n]);
                sink.write_all(&buffer[..n])?;
                total += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn hash_name(hash: &mut Sha256, entry: &Entry, length: u64) {
    hash.update(entry.name.as_bytes());
    hash.update([0]);
    hash.update(length.to_le_bytes());
}

pub(super) fn hash_link(hash: &mut Sha256, entry: &Entry) -> io::Result<()> {
    let target = fs::read_link(&entry.path)?;
    let target = target.to_string_lossy().replace('\\', "/");
    hash_name(hash, entry, target.len() as u64);
    hash.update(target.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_digest_is_the_one_that_every_tool_prints() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&path).unwrap().hex(), hex);
    }

    #[test]
    fn a_folders_digest_depends_on_names_and_contents_and_on_nothing_else() {
        let make = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            digest(folder.path()).unwrap()
        };
        let one = make(&[("a", "1"), ("b/c", "2")]);
        assert_eq!(one, make(&[("b/c", "2"), ("a", "1")]));
        assert_ne!(one, make(&[("a", "1"), ("b/d", "2")]));
        assert_ne!(one, make(&[("a", "12"), ("b/c", "")]));
        assert_ne!(one, make(&[("a", "1")]));
        // Pinned: `sha256=` lines written by one version have to hold for the next.
        assert_eq!(
            one.hex(),
            "cd2496b69a3bea4707cdca8f2e03f1dc44e2409ef900eb65fb197e4c0e6e63c8"
        );
    }
}
