//! Linux.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::os::files::is_on_local_file_system;

/// Returns true if the system reports every change in a folder, or says that it has lost some.
///
/// On a network file system inotify(7) reports the changes of this machine alone. FUSE and what is
/// not known may be one.
pub fn has_reliable_events(folder: &Path) -> bool {
    is_on_local_file_system(folder)
}

/// Opens an existing file to change some of its bytes. Others see each change soon: on a network
/// file system a write is sent at once.
pub fn open_in_place(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if !is_on_local_file_system(file) {
        options.custom_flags(libc::O_DSYNC);
    }
    options.open(file)
}

/// Writes bytes at this place of the file.
pub fn write_at(file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    file.write_all_at(bytes, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_volume_that_is_known_to_be_local_reports_every_change() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(has_reliable_events(folder.path()));
        assert!(!has_reliable_events(Path::new("/proc")));
        assert!(!has_reliable_events(&folder.path().join("missing")));
    }
}
