//! Windows.

#![expect(unsafe_code, reason = "thread priorities have no safe interface")]

use std::fs::{File, Metadata};
use std::io;
use std::os::windows::fs::{MetadataExt as _, OpenOptionsExt as _, symlink_dir, symlink_file};
use std::path::{Path, PathBuf};
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

/// Nothing to do, as for [`copy_mode`].
///
/// # Errors
/// None.
pub fn set_mode(_: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Makes `link` a link that leads to `target`, a folder's where that is one.
///
/// # Errors
/// What the system said: making links is a privilege.
pub fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    // What other systems wrote has slashes, which a link cannot have.
    let target: PathBuf = target.components().collect();
    let from = link.parent().unwrap_or(link);
    match from.join(&target).is_dir() {
        true => symlink_dir(target, link),
        false => symlink_file(target, link),
    }
}

/// Why no file can have this name, or would get another.
pub fn unusable_name(name: &str) -> Option<&'static str> {
    super::names::unusable_on_windows(name)
}

/// Whether what lies here cannot be executed: no volume says so.
pub fn runs_no_programs(_: &Path) -> bool {
    false
}

/// What tells a folder from another one that came into its place.
pub type Identity = u64;

/// The folder's: when it was made.
pub fn identity(metadata: &Metadata) -> Identity {
    metadata.creation_time()
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
