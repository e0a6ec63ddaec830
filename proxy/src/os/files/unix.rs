//! Linux.

#![expect(unsafe_code, reason = "file leases have no safe interface")]

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::StatVfsMountFlags;

/// The libc crate has no such constant for Linux (asm-generic/fcntl.h).
const F_SETSIG: i32 = 10;

/// Opens a file for reading if nobody has it open for writing.
///
/// A read lease is granted only then (fcntl(2), F_SETLEASE). Where leases are not to be had
/// (network file systems, another owner's file) the file counts as unwritten.
///
/// # Errors
/// `WouldBlock` when somebody writes to it; else what opening it said.
pub fn open_unwritten(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match take_lease(&file) {
        Ok(()) => drop_lease(&file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
        Err(_) => {}
    }
    Ok(file)
}

/// Takes a read lease on a file.
///
/// Whoever opens the file for writing meanwhile makes the kernel send a signal to this process.
/// By default that is SIGIO, which ends it; SIGURG is ignored unless there is a handler (signal(7)).
fn take_lease(file: &File) -> io::Result<()> {
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    fcntl(file, libc::F_SETLEASE, libc::F_RDLCK)
}

fn drop_lease(file: &File) {
    let _ = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
}

fn fcntl(file: &File, command: i32, argument: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the commands that are used here take an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The path of a file or folder that is there, without links and `..` in it.
///
/// # Errors
/// What the system said.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// When a file came to be where and what it is: its last change of content, name or attributes.
///
/// Unlike the modification time, which `cp -p` and archives carry over, this cannot be set.
pub fn arrival(metadata: &Metadata) -> SystemTime {
    let since_epoch = Duration::new(
        u64::try_from(metadata.ctime()).unwrap_or_default(),
        u32::try_from(metadata.ctime_nsec()).unwrap_or_default(),
    );
    SystemTime::UNIX_EPOCH + since_epoch
}

/// Gives a copy its original's permissions; `executable` adds the right to run it.
///
/// # Errors
/// What the system said.
pub fn copy_mode(original: &Metadata, copy: &Path, executable: bool) -> io::Result<()> {
    // The owner may always change and remove it: it is ours.
    let run = if executable { 0o111 } else { 0 };
    let mode = original.mode() & 0o777 | 0o600 | run;
    fs::set_permissions(copy, Permissions::from_mode(mode))
}

/// Gives a file of ours these permissions; nobody becomes somebody else by running it.
///
/// # Errors
/// What the system said.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777 | 0o600))
}

pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).open(path)
}

/// Whether this file still has this name.
pub(super) fn has_name(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    identity(&own) == identity(&named)
}

pub(super) fn remove_lock(path: &Path, alone: File) -> io::Result<()> {
    // While it is held: who gets it now sees that it has no name.
    let removed = fs::remove_file(path);
    drop(alone);
    removed
}

/// Has the disk keep what was written into `folder`.
///
/// # Errors
/// What the system said.
pub fn sync(folder: &Path) -> io::Result<()> {
    let opened = File::open(folder)?;
    let mut entries = fs::read_dir(folder)?;
    if let (Some(only), None) = (entries.next().transpose()?, entries.next())
        && only.file_type()?.is_file()
    {
        File::open(only.path())?.sync_all()?;
        return opened.sync_all();
    }
    // With all else that waits for that disk: of thousands of small files each would take its time.
    Ok(rustix::fs::syncfs(opened)?)
}

/// Makes `link` a link that leads to `target`.
///
/// # Errors
/// What the system said.
pub fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Why no file can have this name: every name will do.
pub fn unusable_name(_: &str) -> Option<&'static str> {
    None
}

/// Whether what lies here cannot be executed, whatever its permissions are: mounted `noexec`.
pub fn runs_no_programs(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|volume| volume.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// What tells a folder from another one that came into its place.
pub type Identity = (u64, u64);

/// The folder's.
pub fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Gives what we have made the rights of `model`, as far as they make sense for it, and its owner.
///
/// Refused, it stays as it is: only root may give files away, but for a group of one's own, and what a
/// deployer cannot change may well be right already.
pub(super) fn adopt(path: &Path, model: &Path) {
    let (Ok(own), Ok(model)) = (fs::metadata(path), fs::metadata(model)) else {
        return;
    };
    let runs = own.mode() & 0o111 != 0;
    let mode = match own.is_dir() {
        true => model.mode() & 0o7777,
        false if runs => model.mode() & 0o777 | 0o700,
        false => model.mode() & 0o666 | 0o600,
    };
    // First the rights: who gives a file away may lose its own to change it.
    let _ = fs::set_permissions(path, Permissions::from_mode(mode));
    if (own.uid(), own.gid()) != (model.uid(), model.gid()) {
        let given = std::os::unix::fs::chown(path, Some(model.uid()), Some(model.gid()));
        if given.is_err() {
            // Whoever is in its group may at least give it to that.
            let _ = std::os::unix::fs::chown(path, None, Some(model.gid()));
        }
    }
}

/// Lets this thread run only when others have nothing to do.
pub fn lower_priority() {
    // On Linux a nice value belongs to the thread (setpriority(2), notes). Refused: as before.
    let _ = rustix::process::nice(10);
}

pub(super) fn is_locked(_: &io::Error) -> bool {
    // A rename never fails because of who has the file open.
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    /// If this fails, it ends the whole program of tests.
    #[test]
    fn a_writer_that_comes_while_a_file_is_looked_at_ends_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app");
        fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        take_lease(&file).unwrap();
        let mut writer = File::options();
        writer.write(true).custom_flags(libc::O_NONBLOCK);
        // It breaks the lease: the signal has been sent when this returns.
        let refused = writer.open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop_lease(&file);
        writer.open(&path).unwrap();
    }
}
