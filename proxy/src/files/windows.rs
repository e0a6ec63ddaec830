//! Windows.

#![expect(unsafe_code, reason = "thread priorities have no safe interface")]

use std::fs::{self, File, Metadata};
use std::io;
use std::os::windows::fs::{FileTypeExt as _, OpenOptionsExt as _, symlink_dir, symlink_file};
use std::path::Path;
use std::time::SystemTime;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, SetThreadPriority, THREAD_PRIORITY_BELOW_NORMAL,
};

/// Opens a file for reading if nobody has it open for writing.
///
/// # Errors
/// `WouldBlock` when somebody has it open (error 32, sharing violation); else what opening it said.
pub fn open_unwritten(path: &Path) -> io::Result<File> {
    const SHARE_NOTHING: u32 = 0;
    let mut exclusive = File::options();
    exclusive.read(true).share_mode(SHARE_NOTHING);
    match exclusive.open(path) {
        Err(error) if is_locked(&error) => Err(io::ErrorKind::WouldBlock.into()),
        // Closed at once: who wants to overwrite it while it is copied may.
        other => other.and_then(|_closed| File::open(path)),
    }
}

/// When a file came to be where and what it is.
pub fn arrival(metadata: &Metadata) -> SystemTime {
    let created = metadata.created().unwrap_or(SystemTime::UNIX_EPOCH);
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    created.max(modified)
}

/// Nothing to do: what may be run is no matter of permissions, and a read-only copy could not be
/// removed.
///
/// # Errors
/// None.
pub fn copy_mode(_: &Metadata, _: &Path, _executable: bool) -> io::Result<()> {
    Ok(())
}

/// Makes `copy` a link to where `original` links to.
///
/// # Errors
/// What the system said: making links is a privilege.
pub fn copy_link(original: &Path, copy: &Path) -> io::Result<()> {
    let target = fs::read_link(original)?;
    match fs::symlink_metadata(original)?.file_type().is_symlink_dir() {
        true => symlink_dir(target, copy),
        false => symlink_file(target, copy),
    }
}

/// Lets this thread run only when others have nothing to do.
pub fn lower_priority() {
    // SAFETY: the pseudo handle of the calling thread is always valid. Refused: as before.
    unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL) };
}

/// Locked for now: somebody has it open, or it is being deleted (error 5).
pub(super) fn is_locked(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    matches!(
        code,
        Some(ERROR_ACCESS_DENIED | ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION)
    )
}
