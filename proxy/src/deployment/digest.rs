//! The digest of a file or a folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::release::Digest;

const BUFFER: usize = 64 * 1024;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Path from the folder, with `/` on every system, as UTF-8; names that are no text are in the
    /// encoding of the system.
    pub(crate) name: Vec<u8>,
    pub(crate) relative: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    Folder,
    File,
    Link,
}

/// Returns the digest of a file's content, or of a folder's sorted paths, lengths and contents.
///
/// Times, permissions and empty folders do not count, since they differ between systems. A link
/// counts as a file that contains its target, which is what it is on a system without links.
///
/// # Errors
/// When it cannot be read.
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

/// Lists everything in a folder in the order in which it is hashed, folders before their contents.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut folders = vec![(folder.to_owned(), Vec::new(), PathBuf::new())];
    while let Some((path, prefix, above)) = folders.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let mut name: Vec<u8> = prefix.clone();
            name.extend(entry.file_name().as_encoded_bytes());
            let relative = above.join(entry.file_name());
            let file_type = entry.file_type()?;
            let kind = if file_type.is_symlink() {
                EntryKind::Link
            } else if file_type.is_dir() {
                let prefix = [&*name, b"/"].concat();
                folders.push((entry.path(), prefix, relative.clone()));
                EntryKind::Folder
            } else if file_type.is_file() {
                EntryKind::File
            } else {
                // A socket, a pipe or a device has no content.
                continue;
            };
            entries.push(Entry {
                name,
                relative,
                path: entry.path(),
                kind,
            });
        }
    }
    entries.sort();
    Ok(entries)
}

/// Hashes `source` and copies it to `sink`, so that the digest is that of the copy.
pub(crate) fn transfer(
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

pub(crate) fn hash_name(hash: &mut Sha256, entry: &Entry, length: u64) {
    hash.update(&entry.name);
    hash.update([0]);
    hash.update(length.to_le_bytes());
}

pub(crate) fn hash_link(hash: &mut Sha256, entry: &Entry) -> io::Result<()> {
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
        // Pinned: `sha256=` lines written by one version have to be valid for the next.
        assert_eq!(
            one.hex(),
            "cd2496b69a3bea4707cdca8f2e03f1dc44e2409ef900eb65fb197e4c0e6e63c8"
        );
    }

    #[test]
    fn a_folders_digest_is_known_on_every_system() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("a-b", "between"),
            ("a/ü/leaf.txt", "größe\r\n"),
            ("Z", ""),
            ("a.b", "x"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::create_dir(folder.path().join("empty")).unwrap();
        let mut hash = Sha256::new();
        for (name, content) in [
            ("Z", ""),
            ("a-b", "between"),
            ("a.b", "x"),
            ("a/ü/leaf.txt", "größe\r\n"),
        ] {
            hash.update(name);
            hash.update([0]);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        let said = Digest::finish(hash);
        assert_eq!(digest(folder.path()).unwrap(), said);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_count_byte_by_byte() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let make = |name: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(OsStr::from_bytes(name)), "x").unwrap();
            digest(folder.path()).unwrap()
        };
        assert_ne!(make(b"gr\xf6\xdfe"), make(b"gr\xf7\xdfe"));
    }

    #[cfg(unix)]
    #[test]
    fn the_right_to_be_run_does_not_count() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        fs::write(&file, "x").unwrap();
        let before = digest(folder.path()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(digest(folder.path()).unwrap(), before);
    }
}
