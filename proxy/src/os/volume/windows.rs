//! Windows.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Flag of CreateFileW: what is written goes to the disk, or to the server, at once.
const FILE_FLAG_WRITE_THROUGH: u32 = 0x8000_0000;

/// Returns false: when ReadDirectoryChangesW loses events as its buffer is full, the library that
/// calls it does not say so.
pub fn has_reliable_events(_: &Path) -> bool {
    false
}

/// Opens an existing file to change some of its bytes. Others see each change soon, also on a share.
pub fn open_in_place(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(FILE_FLAG_WRITE_THROUGH);
    options.open(file)
}

/// Writes bytes at this place of the file.
pub fn write_at(file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    if file.seek_write(bytes, place)? == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}
