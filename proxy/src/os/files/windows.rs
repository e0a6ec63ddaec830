//! Windows.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::windows::fs::{MetadataExt as _, OpenOptionsExt as _, symlink_dir, symlink_file};
use std::path::{Component, Path, PathBuf, Prefix};
use std::time::SystemTime;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION,
};

use super::Writers;

/// Length from which a path gets a prefix: 260 characters are the most without one, and a program
/// may append some.
const LONG: usize = 240;

/// Opens a file for reading.
///
/// # Errors
/// `WouldBlock` while a process has it open exclusively (error 32, sharing violation); other kinds if
/// it cannot be opened.
pub fn open_for_reading(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| {
        if is_open_elsewhere(&error) {
            io::ErrorKind::WouldBlock.into()
        } else {
            error
        }
    })
}

/// Looks for processes that have a file open for writing or exclusively.
///
/// Readers do not count: every sidecar of the deployment reads it for its copy.
///
/// # Errors
/// The file cannot be opened.
pub fn look_for_writers(path: &Path) -> io::Result<Writers> {
    const SHARE_READING: u32 = 1;
    let mut probe = File::options();
    probe.read(true).share_mode(SHARE_READING);
    // Closed at once: a deployer may overwrite the file meanwhile.
    match probe.open(path) {
        Ok(_) => Ok(Writers::Absent),
        Err(error) if is_open_elsewhere(&error) => Ok(Writers::Present),
        Err(error) => Err(error),
    }
}

/// Returns nothing: [`look_for_writers`] sees them all.
pub fn open_for_writing() -> HashSet<FileIdentity> {
    HashSet::new()
}

/// Returns false: the times of a file say nothing certain of its content.
pub fn is_on_local_file_system(_: &Path) -> bool {
    false
}

/// Returns the path of an existing file or folder without links and `..`, in the form that most
/// programs support.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    let given = std::path::absolute(path)?;
    match fs::canonicalize(path) {
        Ok(canonical) => Ok(plain(canonical, given)),
        // Some drives cannot resolve a path, nor can Wine a long one.
        Err(error) => fs::metadata(path).map(|_| long(given)).map_err(|_| error),
    }
}

/// Returns `\\?\C:\site` as `C:\site` if that is short enough, and a share by its drive letter if it
/// was given so: a shell cannot even work in `\\server\share`.
fn plain(canonical: PathBuf, given: PathBuf) -> PathBuf {
    let is_on_drive = |path: &Path| {
        matches!(
            prefix(path),
            Some(Prefix::Disk(_) | Prefix::VerbatimDisk(_))
        )
    };
    if !is_on_drive(&canonical) && is_on_drive(&given) {
        return long(given);
    }
    let short = canonical.to_str().filter(|text| text.len() < LONG);
    let Some(verbatim) = short.and_then(|text| text.strip_prefix(r"\\?\")) else {
        return canonical;
    };
    match prefix(&canonical) {
        Some(Prefix::VerbatimDisk(_)) => verbatim.into(),
        Some(Prefix::VerbatimUNC(..)) => format!(r"\\{}", &verbatim[r"UNC\".len()..]).into(),
        _ => canonical,
    }
}

/// Returns a long path on a drive as `\\?\C:\…`, the only form that may be long.
fn long(path: PathBuf) -> PathBuf {
    match prefix(&path) {
        Some(Prefix::Disk(_)) if path.as_os_str().len() >= LONG => {
            let mut verbatim = OsString::from(r"\\?\");
            verbatim.push(&path);
            verbatim.into()
        }
        _ => path,
    }
}

fn prefix(path: &Path) -> Option<Prefix<'_>> {
    match path.components().next() {
        Some(Component::Prefix(prefix)) => Some(prefix.kind()),
        _ => None,
    }
}

/// Returns the time at which a file got its present content and place.
pub fn arrival(metadata: &Metadata) -> SystemTime {
    let created = metadata.created().unwrap_or(SystemTime::UNIX_EPOCH);
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    created.max(modified)
}

/// Does nothing: permissions do not decide what can be run, and a read-only copy could not be
/// removed.
pub fn copy_mode(_: &Metadata, _: &Path, _executable: bool) -> io::Result<()> {
    Ok(())
}

/// Makes a file; its permissions are the folder's.
pub fn create_private(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

/// Returns false: it is not worth it where most volumes cannot share blocks.
pub fn clone_content(_from: &File, _to: &File) -> bool {
    false
}

/// Makes a folder; its permissions are those of the one above.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Does nothing, as [`copy_mode`].
pub fn finish_folder(_: &Path, _mode: u32, _: Option<SystemTime>) -> io::Result<()> {
    Ok(())
}

/// Does nothing, as [`copy_mode`].
pub fn make_changeable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Sets the time of modification of a file or a folder.
pub fn set_modified(path: &Path, modified: SystemTime) -> io::Result<()> {
    const WRITE_ATTRIBUTES: u32 = 0x100;
    const OF_FOLDERS_TOO: u32 = 0x0200_0000;
    let mut options = File::options();
    options.access_mode(WRITE_ATTRIBUTES);
    options.custom_flags(OF_FOLDERS_TOO);
    options.open(path)?.set_modified(modified)
}

/// Returns false: what may be run is no matter of permissions.
pub fn is_executable(_: &Metadata) -> bool {
    false
}

/// Returns the same for all.
pub fn mode(_: &Metadata) -> u32 {
    0
}

/// Returns false: holes are written only into files that are marked for them.
pub fn is_sparse(_: &Metadata) -> bool {
    false
}

/// Returns false: no program has more rights than the process that starts it.
pub fn is_privileged(_: &File, _: &Metadata) -> bool {
    false
}

/// Does nothing, as [`copy_mode`].
pub fn set_mode(_: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Opens a lock file, which cannot be removed while any process has it open.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    const SHARE_READ_AND_WRITE: u32 = 3;
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.share_mode(SHARE_READ_AND_WRITE).open(path)
}

/// Returns `true`: an open lock file cannot be removed.
pub(super) fn has_name(_: &File, _: &Path) -> bool {
    true
}

pub(super) fn remove_lock(path: &Path, alone: File) -> io::Result<()> {
    drop(alone);
    fs::remove_file(path)
}

/// Waits until the files in `folder` are on the disk, except for those in its subfolders: there may
/// be thousands, each of which would wait for the disk.
pub fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::options()
                .append(true)
                .open(entry.path())?
                .sync_all()?;
        }
    }
    Ok(())
}

/// Returns an error: the system cannot exchange paths.
pub fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Creates the symbolic link `link` to `target`, of the kind for folders if that is one.
///
/// # Errors
/// The link cannot be created: that is a privilege.
pub fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    // A target in an archive from another system has slashes, which a link cannot have.
    let target: PathBuf = target.components().collect();
    let from = link.parent().unwrap_or(link);
    if from.join(&target).is_dir() {
        symlink_dir(target, link)
    } else {
        symlink_file(target, link)
    }
}

/// Returns the reason why a file cannot have this name, or would get another one.
pub fn unusable_name(name: &str) -> Option<&'static str> {
    super::names::unusable_on_windows(name)
}

/// Returns `false`: no volume forbids to run programs.
pub fn is_noexec(_: &Path) -> bool {
    false
}

/// Creation time, which tells a file from another one that replaced it.
pub type FileIdentity = u64;

/// Returns the identity of a file or folder.
pub fn identity(metadata: &Metadata) -> FileIdentity {
    metadata.creation_time()
}

/// Returns the creation time, which tells a file from another one that replaced it.
pub fn inode(metadata: &Metadata) -> u64 {
    metadata.creation_time()
}

/// Opens a file.
pub(super) fn open_itself(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Does nothing: a new file inherits the rights of its folder.
pub(super) fn adopt(_: &File, _: &Metadata) {}

/// Does nothing, as [`adopt`].
pub(super) fn hand_over(_: &File, _: &Metadata) {}

/// Returns whether a file is locked for now: a process has it open, or it is being deleted (error 5).
pub(super) fn is_locked(error: &io::Error) -> bool {
    is_open_elsewhere(error) || code(error) == Some(ERROR_ACCESS_DENIED)
}

/// Returns whether a process has the file open in a way that excludes others.
fn is_open_elsewhere(error: &io::Error) -> bool {
    let code = code(error);
    matches!(code, Some(ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION))
}

fn code(error: &io::Error) -> Option<u32> {
    error.raw_os_error().map(i32::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_write_to_a_file_or_has_it_alone_keeps_it_from_being_copied() {
        const SHARE_ALL: u32 = 7;
        const SHARE_READING: u32 = 1;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.exe");
        fs::write(&path, "").unwrap();
        let opened = |writes: bool, share: u32| {
            let mut options = File::options();
            options.read(true).write(writes).share_mode(share);
            options.open(&path).unwrap()
        };
        for share in [SHARE_READING, SHARE_ALL] {
            let _reader = opened(false, share);
            assert_eq!(look_for_writers(&path).unwrap(), Writers::Absent);
            open_for_reading(&path).unwrap();
        }
        for (writes, share) in [(true, SHARE_ALL), (true, 0), (false, 0)] {
            let _other = opened(writes, share);
            assert_eq!(
                look_for_writers(&path).unwrap(),
                Writers::Present,
                "{share}"
            );
            if share == 0 {
                let error = open_for_reading(&path).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            }
        }
        assert_eq!(look_for_writers(&path).unwrap(), Writers::Absent);
    }

    #[test]
    fn what_is_denied_is_not_open_for_writing() {
        // Opened like a file, a folder is denied, too.
        let folder = tempfile::tempdir().unwrap();
        let error = look_for_writers(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_path_is_given_in_the_form_that_most_programs_can_work_in() {
        let long = "x".repeat(300);
        for (canonical, given, expected) in [
            (r"\\?\C:\site\app", r"C:\site\link", r"C:\site\app"),
            (r"\\?\C:\site\app", r"\\?\C:\site", r"C:\site\app"),
            (
                r"\\?\UNC\server\share\app",
                r"\\server\share\app",
                r"\\server\share\app",
            ),
            (
                r"\\?\UNC\10.0.0.4\volume-1\site",
                r"D:\home\site",
                r"D:\home\site",
            ),
            (r"\\?\Volume{1}\site", r"D:\home\site", r"D:\home\site"),
            (
                r"\\?\Volume{1}\site",
                r"\\?\Volume{1}\site",
                r"\\?\Volume{1}\site",
            ),
        ] {
            assert_eq!(plain(canonical.into(), given.into()), Path::new(expected));
        }
        let verbatim = PathBuf::from(format!(r"\\?\C:\{long}"));
        assert_eq!(plain(verbatim.clone(), "C:\\a".into()), verbatim);
        assert_eq!(super::long(format!(r"C:\{long}").into()), verbatim);
    }
}
