//! Files that an app has written into its private copy, where the next release does not find them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::deployment::digest::{EntryKind, entries};
use crate::os::files;

/// Names of folders whose content is made again by itself.
const FOLDERS_OF_NO_DATA: [&str; 8] = [
    "__pycache__",
    "cache",
    ".cache",
    "log",
    "logs",
    "node_modules",
    "temp",
    "tmp",
];
/// Endings of files that are no data.
const ENDINGS_OF_NO_DATA: [&str; 6] = [".lock", ".log", ".pid", ".pyc", ".sock", ".tmp"];

/// Returns the paths in `folder` of the data files that were written after it was complete, sorted.
/// Logs, caches and temporary files are left out.
pub(super) fn data_written(folder: &Path, complete: SystemTime) -> io::Result<Vec<String>> {
    let files = entries(folder)?.into_iter();
    let files = files.filter(|entry| entry.kind == EntryKind::File && !entry.is_aside);
    let written = files.filter(|entry| {
        // A copied file has an old time of modification; other times may have been set.
        fs::symlink_metadata(&entry.path).is_ok_and(|metadata| {
            let is_modified = metadata.modified().is_ok_and(|time| time > complete);
            is_modified && files::arrival(&metadata) > complete
        })
    });
    let data = written.filter(|entry| is_data(&entry.relative));
    Ok(data
        .map(|entry| entry.relative.display().to_string())
        .collect())
}

fn is_data(path: &Path) -> bool {
    let lower = |name: &std::ffi::OsStr| name.to_string_lossy().to_lowercase();
    let name = lower(path.file_name().unwrap_or_default());
    let folders = path.parent().unwrap_or(path).iter().map(lower);
    let is_ending = |ending: &&str| name.ends_with(*ending);
    !ENDINGS_OF_NO_DATA.iter().any(is_ending)
        && !folders
            .into_iter()
            .any(|folder| FOLDERS_OF_NO_DATA.contains(&&*folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_what_is_made_again_by_itself() {
        for name in [
            "app.db",
            "app.db-wal",
            "uploads/1.png",
            "logbook/a.txt",
            "x/Cached",
        ] {
            assert!(is_data(Path::new(name)), "{name}");
        }
        for name in [
            "log/production.log",
            "Logs/a.txt",
            "lib/__pycache__/a.cpython-311.pyc",
            "tmp/cache/a",
            "server.pid",
            "nohup.LOG",
        ] {
            assert!(!is_data(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn what_was_copied_is_not_written_and_what_comes_later_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), name).unwrap();
        write("copied");
        let complete = SystemTime::now();
        assert!(data_written(folder.path(), complete).unwrap().is_empty());
        // The time of a file may be a tick behind the clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        write("app.db");
        write("app.log");
        assert_eq!(data_written(folder.path(), complete).unwrap(), ["app.db"]);
    }
}
