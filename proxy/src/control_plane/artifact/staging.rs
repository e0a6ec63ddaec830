//! Where copies are made: a folder of this sidecar's own, and nobody's once it is gone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::files;

const LOCK: &str = "lock";

/// One sidecar's folder for copies in the making.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    lock: PathBuf,
    /// For as long as this lives.
    held: Option<File>,
}

// === impl Staging ===

impl Staging {
    /// Makes a folder in `place`, and removes those whose sidecars were killed.
    pub(super) fn open(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        sweep(place);
        let lock = tempfile::Builder::new()
            .suffix(&format!(".{LOCK}"))
            .tempfile_in(place)?;
        let (_, lock) = lock.keep().map_err(|error| error.error)?;
        // Locked before the folder is made: only folders of which the lock is free are swept.
        let held = files::try_lock(&lock).ok_or(io::ErrorKind::ResourceBusy)?;
        let folder = lock.with_extension("");
        fs::create_dir(&folder)?;
        Ok(Self {
            folder,
            lock,
            held: Some(held),
        })
    }

    /// A new empty folder, removed with the value unless it is kept.
    pub(super) fn folder(&self) -> io::Result<TempDir> {
        // Whoever cleans temporary folders may have been here.
        fs::create_dir_all(&self.folder)?;
        tempfile::tempdir_in(&self.folder)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.held = None;
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock);
    }
}

fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == LOCK)
            && let Some(_alone) = files::try_lock(&path)
        {
            let folder = path.with_extension("");
            match fs::remove_dir_all(&folder) {
                Err(error) if folder.exists() => {
                    tracing::debug!(?folder, %error, "a killed sidecar's copies stay");
                }
                _ => drop(fs::remove_file(&path)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_sidecar_left_is_removed_and_what_a_live_one_makes_is_not() {
        let place = tempfile::tempdir().unwrap();
        let live = Staging::open(place.path()).unwrap();
        let making = live.folder().unwrap();
        let dead = Staging::open(place.path()).unwrap();
        let left = dead.folder().unwrap().keep();
        // Killed: nothing is removed, and the system lets the lock go.
        let mut dead = std::mem::ManuallyDrop::new(dead);
        let killed = (dead.folder.clone(), dead.lock.clone());
        assert!(killed.0.exists() && killed.1.exists());
        dead.held = None;
        let _next = Staging::open(place.path()).unwrap();
        assert!(making.path().exists());
        assert!(!left.exists() && !killed.0.exists() && !killed.1.exists());
    }
}
