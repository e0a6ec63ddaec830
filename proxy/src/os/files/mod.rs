//! File operations that differ between Unix and Windows, in twins that export the same names.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

mod bounded;
pub mod names;
#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;
mod private;
mod reserve;
pub mod rotation;

pub use self::bounded::{
    open_regular, read_large, read_open_large, read_open_small, read_small, read_small_itself,
};
pub use self::private::{
    Access, append_to, check_names, limit_to_readers_of, make_folders, make_own_folder,
};
pub use self::reserve::{is_full, keep_reserve, overwrite, write_with_reserve};
pub use os::{
    FileIdentity, arrival, canonical, clone_content, copy_mode, create_private, exchange,
    finish_folder, identity, inode, is_executable, is_noexec, is_on_local_file_system,
    is_privileged, is_sparse, look_for_writers, make_changeable, make_link, make_private_folder,
    mode, open_for_reading, open_for_writing, set_mode, set_modified, sync, unusable_name,
};

/// Maximum number of retries while a file is locked on Windows: a scanner, an indexer or a reader
/// has it open.
const LOCKED_TRIES: u32 = 20;
const LOCKED_PAUSE: Duration = Duration::from_millis(25);
/// Maximum number of tries to get a lock, which others hold while they move or remove a folder.
const LOCK_TRIES: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(25);
/// Age from which a temporary file is a leftover: no deploy takes that long.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Number of random characters in the temporary names of the crate `tempfile`.
const RANDOM: usize = 6;

/// The result of a look for processes that write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// No process has it open for writing.
    Absent,
    /// A process has it open for writing.
    Present,
    /// The system does not tell.
    Unknown,
}

/// Writes a file so that readers see the old content or the new, never a part.
///
/// It gets the rights and, as far as permitted, the owner of the file that it replaces, or of its
/// folder if it is new: deployer and service may be different users.
///
/// # Errors
/// The file cannot be written, or on Windows stays locked during all retries.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = write_temporary(path, content)?;
    let mut tries = 0;
    loop {
        match temporary.persist(path) {
            Ok(_) => return Ok(()),
            Err(refused) if tries < LOCKED_TRIES && os::is_locked(&refused.error) => {
                tries += 1;
                temporary = refused.file;
                std::thread::sleep(LOCKED_PAUSE);
            }
            Err(refused) => return Err(refused.error),
        }
    }
}

/// Creates a file with this content, and returns true; false if there is one, whatever is in it.
/// Readers never see a part of the content, except on a file system that knows no way to create a
/// whole file.
///
/// # Errors
/// The file cannot be written.
pub fn create_atomically(path: &Path, content: &[u8]) -> io::Result<bool> {
    let created = match write_temporary(path, content)?.persist_noclobber(path) {
        Ok(_) => return Ok(true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(_) => File::create_new(path),
    };
    match created {
        Ok(mut file) => file.write_all(content).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a file that has the rights of the one at `path`, or of its folder, beside it.
fn write_temporary(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.flush()?;
    let model = fs::metadata(path).or_else(|_| fs::metadata(folder))?;
    os::adopt(temporary.as_file(), &model);
    Ok(temporary)
}

/// Removes temporary files and folders (`.XXXXXX.tmp`) of [`write_atomically`] and of deploys that
/// were killed a day ago or earlier.
pub fn remove_leftovers(folder: &Path, now: SystemTime) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix('.'));
        let random = name.and_then(|name| name.strip_suffix(".tmp"));
        let is_ours = random.is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        let Some(metadata) = entry.metadata().ok().filter(|_| is_ours) else {
            continue;
        };
        let changed = metadata.modified().unwrap_or(now);
        if now.duration_since(changed).unwrap_or_default() > LEFTOVER_AGE {
            // Another sidecar may have removed it first.
            let _ = if metadata.is_dir() {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
        }
    }
}

/// Removes a folder of ours and all in it, also what its owner may not change.
///
/// # Errors
/// It cannot be removed, or is not there.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path).or_else(|error| {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err(error);
        }
        make_changeable(path)?;
        fs::remove_dir_all(path)
    })
}

/// Returns the canonical path of something that need not exist: links are resolved in the part that
/// does.
pub fn canonical_existing(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(canonical(above).ok()?.join(rest))
    });
    known.unwrap_or_else(|| path.to_owned())
}

/// Renames a file or folder within a volume.
///
/// # Errors
/// It cannot be renamed, or on Windows stays locked during all retries.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::rename(from, to) {
            Err(error) if tries < LOCKED_TRIES && os::is_locked(&error) => {
                tries += 1;
                std::thread::sleep(LOCKED_PAUSE);
            }
            other => return other,
        }
    }
}

/// Creates a folder and its parents, with the rights of the closest one that existed.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_folder(above)?;
    match fs::create_dir(path) {
        Ok(()) => adopt(path, above),
        // Another process was quicker.
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Gives a new file, or a new folder with its content, to the owner and the group of the folder `model`,
/// as far as this is permitted. The rights stay as they are, unless the owner stays too and the folder is
/// one of a group that may write to it: then the group gets the rights of the owner that the folder has for it.
pub fn hand_over(path: &Path, model: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), model)?;
        }
    }
    if let (Ok(file), Ok(model)) = (os::open_itself(path), fs::metadata(model)) {
        os::hand_over(&file, &model);
    }
    Ok(())
}

/// Gives a new file or folder of ours the rights of the folder `model`, as far as this is permitted.
/// A link that has taken its place meanwhile is not followed.
fn adopt(path: &Path, model: &Path) {
    if let (Ok(file), Ok(model)) = (os::open_itself(path), fs::metadata(model)) {
        os::adopt(&file, &model);
    }
}

/// Waits for a shared lock, which is held while the returned file is open.
///
/// # Errors
/// The lock file cannot be opened, or another process holds the lock for ten seconds.
pub fn lock_shared(path: &Path) -> io::Result<File> {
    lock(path, File::try_lock_shared)
}

/// Waits for an exclusive lock, which is held while the returned file is open.
///
/// # Errors
/// As [`lock_shared`].
pub fn lock_exclusive(path: &Path) -> io::Result<File> {
    lock(path, File::try_lock)
}

fn lock(path: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> io::Result<File> {
    let mut being_removed = None;
    for _ in 0..LOCK_TRIES {
        let file = match os::open_lock(path) {
            Ok(file) => file,
            Err(error) if os::is_locked(&error) => {
                being_removed = Some(error);
                std::thread::sleep(LOCK_PAUSE);
                continue;
            }
            Err(error) => return Err(error),
        };
        match try_lock(&file) {
            // The former holder may have removed the file; others would lock a new one of this name.
            Ok(()) if os::has_name(&file, path) => return Ok(file),
            Ok(()) => continue,
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    if let Some(error) = being_removed {
        return Err(error);
    }
    let held = format!("another process holds the lock {}", path.display());
    Err(io::Error::new(io::ErrorKind::ResourceBusy, held))
}

/// Takes an exclusive lock; `None` if another process holds it.
pub fn try_lock(path: &Path) -> Option<File> {
    let file = os::open_lock(path).ok()?;
    file.try_lock().ok()?;
    os::has_name(&file, path).then_some(file)
}

/// Removes a lock that is held exclusively. Processes that wait for it lock a new file of this name.
///
/// # Errors
/// The file cannot be removed, on Windows also because another process waits for the lock.
pub fn remove_lock(path: &Path, alone: File) -> io::Result<()> {
    os::remove_lock(path, alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_for_a_lock_that_was_removed_has_the_one_that_others_find() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let alone = try_lock(&path).unwrap();
        let (started, starts) = std::sync::mpsc::channel();
        let waits = std::thread::spawn({
            let path = path.clone();
            move || {
                started.send(()).unwrap();
                lock_shared(&path).unwrap()
            }
        });
        starts.recv().unwrap();
        let removed = remove_lock(&path, alone);
        // On Windows the one who waits may prevent that.
        assert!(removed.is_ok() || cfg!(windows), "{removed:?}");
        let held = waits.join().unwrap();
        assert!(try_lock(&path).is_none(), "somebody has it");
        drop(held);
        // A process that another test starts has all open files until it is another program.
        let free = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            try_lock(&path).is_some()
        });
        assert!(free, "nobody has it");
    }

    #[test]
    fn a_lock_that_is_never_given_back_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _held = try_lock(&path).unwrap();
        let error = lock_shared(&path).unwrap_err().to_string();
        assert!(error.contains("another process holds the lock"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_a_file_of_ours_keeps_its_target_as_it_is() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("precious"), "x").unwrap();
        fs::set_permissions(path("precious"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink(path("precious"), path("ours")).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        adopt(&path("ours"), folder.path());
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("precious"), 0o600);
        fs::remove_file(path("ours")).unwrap();
        fs::write(path("ours"), "x").unwrap();
        adopt(&path("ours"), folder.path());
        assert_eq!(mode("ours"), 0o666, "of the folder");
    }
}
