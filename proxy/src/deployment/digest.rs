//! The digest of a file or a folder.

use std::fs;
use std::io;
use std::path::Path;

pub(crate) use super::entries::{Digests, Entry, EntryKind, Hashes, belongs_aside, entries};
use super::file_error::NameFile as _;
use super::transfer::{check_length, transfer};
use crate::os::files;
use crate::release::Digest;

/// Returns the digest of a file's content, or of a folder's sorted paths, lengths and contents.
///
/// Times, permissions and empty folders do not count, since they differ between systems. A link
/// counts as a file that contains its target, which is what it is on a system without links.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> io::Result<Digest> {
    Ok(digests(path)?.whole)
}

/// Returns the digest of a file or a folder, with and without what version control systems and
/// editors keep in it.
pub(crate) fn digests(path: &Path) -> io::Result<Digests> {
    let mut hashes = Hashes::default();
    if !fs::metadata(path).reading(path)?.is_dir() {
        let mut file = files::open_for_reading(path).reading(path)?;
        let length = file.metadata().reading(path)?.len();
        transfer((&mut file, path), length, &mut hashes, |_| Ok(()))?;
        return Ok(hashes.finish());
    }
    for entry in entries(path)? {
        match entry.kind {
            EntryKind::Folder => {}
            EntryKind::Link => {
                let target = fs::read_link(&entry.path).reading(&entry.path)?;
                hashes.add_link(&entry, &target);
            }
            EntryKind::File => {
                let mut file = files::open_for_reading(&entry.path).reading(&entry.path)?;
                let length = file.metadata().reading(&entry.path)?.len();
                hashes.begin(&entry, length);
                let from = (&mut file, &*entry.path);
                let read = transfer(from, length, &mut hashes, |_| Ok(()))?;
                check_length(&entry, length, read)?;
            }
        }
    }
    Ok(hashes.finish())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

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

    #[test]
    fn version_control_and_editors_change_the_whole_digest_and_not_that_of_the_code() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("app.py", "1");
        write("lib/.gitignore", "x");
        let before = digests(folder.path()).unwrap();
        assert_eq!(before.whole, before.code);
        let aside = [
            ".git/index",
            "lib/module/.git",
            ".hg/store",
            ".svn/wc.db",
            "app.py~",
            "lib/.app.py.swp",
            ".#app.py",
            "#app.py#",
            "4913",
            ".idea/workspace.xml",
            ".vscode/settings.json",
            "lib/.DS_Store",
            "lib/._app.py",
            "Thumbs.db",
            "app.py___jb_tmp___",
            ".app.py.kate-swp",
            ".nfs000000000c5a1b2c00000001",
            ".fuse_hidden0000123400000001",
            ".settings/org.eclipse.jdt.core.prefs",
            ".metadata/.lock",
            ".fleet/settings.json",
            ".zed/settings.json",
            ".history/app_1.py",
            ".nova/Configuration.json",
            ".project",
            "shop.sublime-workspace",
            ".~lock.report.ods#",
            "lib/.goutputstream-X1Y2Z3",
            ".directory",
            ".Trash-0/info/app.py.trashinfo",
            "app.py.swp",
            "lib/__pycache__/app.cpython-312.pyc",
            "nohup.out",
        ];
        for name in aside {
            write(name, "x");
        }
        let after = digests(folder.path()).unwrap();
        assert_ne!(before.whole, after.whole);
        assert_eq!(before.code, after.code);
        let content = [
            "app.py",
            "49130",
            "git/index",
            "#",
            ".swp",
            ".nfs",
            ".well-known/acme-challenge/token",
            ".env",
            ".htaccess",
            "shop.sublime-project",
            "history/1",
            "app.pyc",
            "nohup.out.1",
        ];
        for name in content {
            write(name, "2");
            let other = digests(folder.path()).unwrap();
            assert_ne!(other.code, after.code, "{name}");
            fs::remove_file(folder.path().join(name)).unwrap();
        }
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
