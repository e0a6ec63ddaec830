//! What Unix and Windows do differently with files, in twins that export the same names.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub mod names;
#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;
pub mod rotation;

pub use os::{
    Identity, arrival, canonical, copy_mode, identity, lower_priority, make_link, open_unwritten,
    runs_no_programs, set_mode, sync, unusable_name,
};

/// For what Windows calls locked: a scanner, an indexer or a reader has the file open.
const LOCKED_TRIES: u32 = 20;
const LOCKED_PAUSE: Duration = Duration::from_millis(25);
/// Nobody takes that long.
const HALF_MADE_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// So many random characters the library puts into a temporary name.
const RANDOM: usize = 6;

/// Writes a file so that readers see the old content or the new, never a part.
///
/// It has the rights and, where that can be done, the owner of the file that it replaces, or else
/// of its folder: deployer and service may be different users.
///
/// # Errors
/// What the system said, also after trying again while the target is locked.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.flush()?;
    os::adopt(temporary.path(), if path.exists() { path } else { folder });
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

/// Removes what was half made in `folder` by programs that were killed a day ago or earlier: the
/// temporary files and folders of [`write_atomically`] and of deploys, `.XXXXXX.tmp`.
pub fn remove_half_made(folder: &Path, now: SystemTime) {
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
        if now.duration_since(changed).unwrap_or_default() > HALF_MADE_FOR {
            // Another one may have been quicker.
            let _ = match metadata.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
        }
    }
}

/// The path of what need not be there, without links as far as it is.
pub fn canonical_so_far(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(canonical(above).ok()?.join(rest))
    });
    known.unwrap_or_else(|| path.to_owned())
}

/// Gives a file or folder, which may lie anywhere on the same volume, its name.
///
/// # Errors
/// What the system said, also after trying again while it is locked.
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

/// Makes a folder, and those above it, as usable for others as the one that was there.
///
/// # Errors
/// What the system said.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_folder(above)?;
    match fs::create_dir(path) {
        Ok(()) => os::adopt(path, above),
        // Somebody else was quicker.
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Makes a file, or a folder with all that is in it, as usable for others as the folder `model` is.
///
/// # Errors
/// What reading the folder said.
pub fn adopt_all(path: &Path, model: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            adopt_all(&entry?.path(), model)?;
        }
    }
    os::adopt(path, model);
    Ok(())
}

/// Takes a lock for as long as the file is open, shared with others who do the same.
///
/// # Errors
/// What opening or locking the file said.
pub fn lock_shared(path: &Path) -> io::Result<File> {
    loop {
        let file = os::open_lock(path)?;
        file.lock_shared()?;
        // Who had it alone may have removed it meanwhile: then nobody else will find this one.
        if os::has_name(&file, path) {
            return Ok(file);
        }
    }
}

/// Takes a lock alone, or nothing when anybody else has it.
pub fn try_lock(path: &Path) -> Option<File> {
    let file = os::open_lock(path).ok()?;
    file.try_lock().ok()?;
    os::has_name(&file, path).then_some(file)
}

/// Removes a lock that is held alone. Whoever waits for it gets another one of this name.
///
/// # Errors
/// What the system said; on Windows also when somebody waits for it.
pub fn remove_lock(path: &Path, alone: File) -> io::Result<()> {
    os::remove_lock(path, alone)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// Whether a thread of this process waits for a lock (proc(5), /proc/locks).
    fn somebody_waits() -> bool {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let me = format!(" {} ", std::process::id());
        let mut locks = locks.lines();
        locks.any(|lock| lock.contains("-> FLOCK") && lock.contains(&me))
    }

    #[test]
    fn who_waited_for_a_lock_that_was_removed_has_the_one_that_others_find() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let alone = try_lock(&path).unwrap();
        let waits = std::thread::spawn({
            let path = path.clone();
            move || lock_shared(&path).unwrap()
        });
        while !somebody_waits() {
            std::thread::yield_now();
        }
        remove_lock(&path, alone).unwrap();
        let held = waits.join().unwrap();
        assert!(try_lock(&path).is_none(), "somebody has it");
        drop(held);
        assert!(try_lock(&path).is_some());
    }
}
