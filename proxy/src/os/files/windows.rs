//! Windows.

#![expect(unsafe_code, reason = "thread priorities have no safe interface")]

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::windows::fs::{MetadataExt as _, OpenOptionsExt as _, symlink_dir, symlink_file};
use std::path::{Component, Path, PathBuf, Prefix};
use std::time::SystemTime;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, SetThreadPriority, THREAD_PRIORITY_BELOW_NORMAL,
};

/// A program may make some more of a path, and 260 characters are the most without a prefix.
const LONG: usize = 240;

/// Opens a file for reading if nobody has it open for writing, or for itself alone.
///
/// Who reads it, as every sidecar of the deployment does for its copy, is in nobody's way.
///
/// # Errors
/// `WouldBlock` when somebody has (error 32, sharing violation); else what opening it said.
pub fn open_unwritten(path: &Path) -> io::Result<File> {
    const SHARE_READING: u32 = 1;
    let mut probe = File::options();
    probe.read(true).share_mode(SHARE_READING);
    // Closed at once: who wants to overwrite it meanwhile may.
    let opened = probe.open(path).map(drop).and_then(|()| File::open(path));
    opened.map_err(|error| match is_open_elsewhere(&error) {
        true => io::ErrorKind::WouldBlock.into(),
        false => error,
    })
}

/// The path of a file or folder that is there, without links and `..` in it, in the form that most
/// programs can work in.
///
/// # Errors
/// What the system said.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    let given = std::path::absolute(path)?;
    match fs::canonicalize(path) {
        Ok(canonical) => Ok(plain(canonical, given)),
        // Some drives cannot say what is behind a path (nor can Wine, of a long one).
        Err(error) => fs::metadata(path).map(|_| long(given)).map_err(|_| error),
    }
}

/// `\\?\C:\site` as `C:\site`, where that is short enough; a share by its drive letter if it was
/// given so: a shell cannot even work in `\\server\share`.
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

/// A path of a drive as `\\?\C:\…` when it is long: only so may it be.
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

/// Nobody can remove it as long as anybody has it open.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    const SHARE_READ_AND_WRITE: u32 = 3;
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.share_mode(SHARE_READ_AND_WRITE).open(path)
}

/// It cannot have been removed.
pub(super) fn has_name(_: &File, _: &Path) -> bool {
    true
}

pub(super) fn remove_lock(path: &Path, alone: File) -> io::Result<()> {
    drop(alone);
    fs::remove_file(path)
}

/// Has the disk keep the files that were written into `folder`, but for those in folders below it:
/// of those there may be thousands, and each would take its time.
///
/// # Errors
/// What the system said.
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

/// Nothing to do: what is made in a folder inherits its rights.
pub(super) fn adopt(_: &Path, _: &Path) {}

/// Lets this thread run only when others have nothing to do.
pub fn lower_priority() {
    // SAFETY: the pseudo handle of the calling thread is always valid. Refused: as before.
    unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL) };
}

/// Locked for now: somebody has it open, or it is being deleted (error 5).
pub(super) fn is_locked(error: &io::Error) -> bool {
    is_open_elsewhere(error) || code(error) == Some(ERROR_ACCESS_DENIED)
}

/// Somebody has it open in a way that goes with no other.
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
            open_unwritten(&path).unwrap();
        }
        for (writes, share) in [(true, SHARE_ALL), (true, 0), (false, 0)] {
            let _other = opened(writes, share);
            let error = open_unwritten(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{share}");
        }
        open_unwritten(&path).unwrap();
    }

    #[test]
    fn what_is_denied_is_not_open_for_writing() {
        // Opened like a file, a folder is denied, too.
        let folder = tempfile::tempdir().unwrap();
        let error = open_unwritten(folder.path()).unwrap_err();
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
