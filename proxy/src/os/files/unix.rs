//! Linux.

#![expect(unsafe_code, reason = "file leases have no safe interface")]

use std::collections::HashSet;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::StatVfsMountFlags;

use super::Writers;
use crate::os::procfs;

/// Command of fcntl(2) that chooses the signal of a broken lease (asm-generic/fcntl.h); the libc crate
/// has it not for Linux.
const F_SETSIG: i32 = 10;

/// File systems of this machine (statfs(2), linux/magic.h). On others, a writer may run elsewhere,
/// and a lease is refused without any: NFSv4 has none without a delegation, SMB none without an
/// oplock.
const LOCAL: [u64; 19] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0xf2f5_2010, // F2FS
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS2
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0x9660,      // ISO 9660
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS3
    0x482b,      // HFS+
];

/// Opens a file for reading.
///
/// # Errors
/// Those of the system.
pub fn open_for_reading(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Looks for processes that have a file open for writing.
///
/// A read lease is granted if there is none (fcntl(2), F_SETLEASE), but not on file systems of other
/// machines, nor on a file of another owner without CAP_LEASE.
///
/// # Errors
/// The file cannot be opened.
pub fn look_for_writers(path: &Path) -> io::Result<Writers> {
    let file = File::open(path)?;
    if !rustix::fs::fstatfs(&file).is_ok_and(|volume| is_local(&volume)) {
        return Ok(Writers::Unknown);
    }
    Ok(match take_lease(&file) {
        Ok(()) => {
            drop_lease(&file);
            Writers::Absent
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Writers::Present,
        Err(_) => Writers::Unknown,
    })
}

/// Returns the files that processes have open for writing, as far as `/proc` shows them: those of
/// this user on this machine, for root of all users (proc_pid_fd(5)).
pub fn open_for_writing() -> HashSet<FileIdentity> {
    const WRITES: u32 = 0o200;
    let descriptors = |pid| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
    };
    let descriptors = procfs::pids().flat_map(descriptors).flatten();
    // The rights of the link are the mode of the open file.
    let written = descriptors
        .filter(|descriptor| (descriptor.metadata()).is_ok_and(|link| link.mode() & WRITES != 0));
    let files = written.filter_map(|descriptor| fs::metadata(descriptor.path()).ok());
    files.map(|metadata| identity(&metadata)).collect()
}

/// Returns true if a file, or a folder, is on a file system of this machine: each change of it sets
/// its time of change.
pub fn is_on_local_file_system(path: &Path) -> bool {
    // Without opening it, which would wait for the writer of a pipe.
    rustix::fs::statfs(path).is_ok_and(|volume| is_local(&volume))
}

fn is_local(volume: &rustix::fs::StatFs) -> bool {
    // The type of the field depends on the processor.
    let kind = volume.f_type as u64 & 0xffff_ffff;
    LOCAL.contains(&kind)
}

/// Takes a read lease on a file.
///
/// If a process opens the file for writing meanwhile, the kernel sends this process a signal. By
/// default that is SIGIO, which ends it; SIGURG is ignored unless there is a handler (signal(7)).
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

/// Returns the path of an existing file or folder without links and `..`.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// Returns the time at which a file got its present content, name and attributes (ctime).
///
/// Unlike the modification time, which `cp -p` and archives preserve, it cannot be set.
pub fn arrival(metadata: &Metadata) -> SystemTime {
    let since_epoch = Duration::new(
        u64::try_from(metadata.ctime()).unwrap_or_default(),
        u32::try_from(metadata.ctime_nsec()).unwrap_or_default(),
    );
    SystemTime::UNIX_EPOCH + since_epoch
}

/// Gives a copy the permissions of its original; `executable` adds the right to run it.
pub fn copy_mode(original: &Metadata, copy: &Path, executable: bool) -> io::Result<()> {
    // Who may read it may run it.
    let run = if executable {
        (original.mode() & 0o444) >> 2 | 0o100
    } else {
        0
    };
    // The owner, who is the user of this process, may always change and remove it.
    let mode = original.mode() & 0o777 | 0o600 | run;
    fs::set_permissions(copy, Permissions::from_mode(mode))
}

/// Makes a file that nobody else can read until [`copy_mode`] gives it its permissions.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a new file share the blocks of another one, where the file system can do that (ioctl_ficlone(2)).
/// Returns false if it cannot.
pub fn clone_content(from: &File, to: &File) -> bool {
    #[cfg(target_os = "linux")]
    return rustix::fs::ioctl_ficlone(to, from).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Makes a folder that nobody else can use until [`finish_folder`] gives it its permissions.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Gives a folder of ours these permissions and this time. The owner may read it in any case, and
/// needs [`make_changeable`] to remove it. The time is best effort: only static file servers use it.
pub fn finish_folder(path: &Path, mode: u32, modified: Option<SystemTime>) -> io::Result<()> {
    if let Some(modified) = modified {
        let _ = File::open(path).and_then(|folder| folder.set_modified(modified));
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 | 0o500))
}

/// Lets the owner change a folder and those in it.
pub fn make_changeable(path: &Path) -> io::Result<()> {
    let mode = mode(&fs::metadata(path)?);
    if mode & 0o700 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(mode | 0o700))?;
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_changeable(&entry.path())?;
        }
    }
    Ok(())
}

/// Sets the time of modification of a file or a folder of ours.
pub fn set_modified(path: &Path, modified: SystemTime) -> io::Result<()> {
    File::open(path)?.set_modified(modified)
}

/// Returns true if the owner may run it.
pub fn is_executable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// Returns the permissions.
pub fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

/// Returns true if a file takes less room than its length: it has holes.
pub fn is_sparse(metadata: &Metadata) -> bool {
    metadata.blocks().saturating_mul(512) < metadata.len()
}

/// Returns true if a program has file capabilities (capabilities(7)), or runs as its owner.
pub fn is_privileged(file: &File, metadata: &Metadata) -> bool {
    let has_capabilities = || {
        let mut value = [0_u8; 64];
        rustix::fs::fgetxattr(file, "security.capability", &mut value).is_ok()
    };
    metadata.mode() & 0o111 != 0 && (metadata.mode() & 0o6000 != 0 || has_capabilities())
}

/// Gives a file these permissions, without set-user-ID and the like.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777 | 0o600))
}

pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    // Who can open it can hold it.
    options
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if metadata.mode() & 0o077 != 0 {
        // Of an earlier version; another user's cannot be changed.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
    }
    Ok(file)
}

/// Returns whether `path` still leads to this file.
pub(super) fn has_name(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    identity(&own) == identity(&named)
}

pub(super) fn remove_lock(path: &Path, alone: File) -> io::Result<()> {
    // While it is held: a process that locks it now sees that it has no name any more.
    let removed = fs::remove_file(path);
    drop(alone);
    removed
}

/// Waits until the content of `folder` is on the disk.
pub fn sync(folder: &Path) -> io::Result<()> {
    let opened = File::open(folder)?;
    let mut entries = fs::read_dir(folder)?;
    if let (Some(only), None) = (entries.next().transpose()?, entries.next())
        && only.file_type()?.is_file()
    {
        File::open(only.path())?.sync_all()?;
        return opened.sync_all();
    }
    // Syncs the whole file system: thousands of small files would each wait for the disk.
    Ok(rustix::fs::syncfs(opened)?)
}

/// Exchanges two paths in one step.
///
/// # Errors
/// When the file system cannot do that.
#[cfg(target_os = "linux")]
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Returns an error: the system cannot exchange paths.
#[cfg(not(target_os = "linux"))]
pub fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Creates the symbolic link `link` to `target`.
pub fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Returns `None`: every name is possible.
pub fn unusable_name(_: &str) -> Option<&'static str> {
    None
}

/// Returns whether `path` is on a volume that is mounted `noexec`.
pub fn is_noexec(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|volume| volume.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Device and inode, which tell a file from another one that replaced it.
pub type FileIdentity = (u64, u64);

/// Returns the identity of a file or folder.
pub fn identity(metadata: &Metadata) -> FileIdentity {
    (metadata.dev(), metadata.ino())
}

/// Returns the number of a file in its volume; unlike the volume's own, it outlives a restart.
pub fn inode(metadata: &Metadata) -> u64 {
    metadata.ino()
}

/// Opens a file or folder, not what a link of this name leads to.
pub(super) fn open_itself(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    options.read(true).custom_flags(flags).open(path)
}

/// Gives a new file or folder the owner of `model`, and its rights as far as they apply.
///
/// Errors are ignored: only root may change owners, apart from groups of its own, and what a deployer
/// may not change is often right already.
pub(super) fn adopt(file: &File, model: &Metadata) {
    let Ok(own) = file.metadata() else {
        return;
    };
    let runs = own.mode() & 0o111 != 0;
    let mode = if own.is_dir() {
        model.mode() & 0o7777
    } else if runs {
        model.mode() & 0o777 | 0o700
    } else {
        model.mode() & 0o666 | 0o600
    };
    // First the rights: only the owner may change them.
    let _ = file.set_permissions(Permissions::from_mode(mode));
    give(file, &own, model);
}

/// Gives a new file or folder to the owner and the group of `model`. If it stays the user's own, the group
/// gets the rights of the owner, as far as `model` has them for a group that may write to it.
pub(super) fn hand_over(file: &File, model: &Metadata) {
    let Ok(own) = file.metadata() else {
        return;
    };
    let is_shared = model.mode() & 0o020 != 0;
    if give(file, &own, model) == Given::Group && is_shared {
        let shared = (own.mode() & 0o700) >> 3 & model.mode();
        let mode = own.mode() & 0o7777 | shared;
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
}

/// The receiver of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Owner,
    /// The group; the owner is the same as before.
    Group,
    Nobody,
}

/// Gives a file with the metadata `own` to the owner and the group of `model`, as far as permitted.
fn give(file: &File, own: &Metadata, model: &Metadata) -> Given {
    use std::os::unix::fs::fchown;

    let (user, group) = (Some(model.uid()), Some(model.gid()));
    if own.uid() != model.uid() && fchown(file, user, group).is_ok() {
        return Given::Owner;
    }
    // A member of the group may at least change the group.
    if own.gid() == model.gid() || fchown(file, None, group).is_ok() {
        return Given::Group;
    }
    Given::Nobody
}

/// Returns `false`: an open file can be renamed and replaced.
pub(super) fn is_locked(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails by the end of the whole test program.
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
