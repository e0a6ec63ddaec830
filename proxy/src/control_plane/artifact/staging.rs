//! Where copies are made: a folder of this sidecar's own, and nobody's once it is gone.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::os::files;

const LOCK: &str = "lock";
/// Who sweeps has done so in a moment.
const TRIES: u32 = 20;

/// One sidecar's folder for copies in the making.
#[derive(Debug)]
pub(super) struct Staging {
    place: PathBuf,
    /// None as long as there is no room for it.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    folder: PathBuf,
    lock: PathBuf,
    /// For as long as this lives.
    held: Option<File>,
}

// === impl Staging ===

impl Staging {
    /// Makes a folder in `place`, and removes those whose sidecars were killed. On a full disk the
    /// first copy makes it: what was copied before runs without.
    pub(super) fn open(place: &Path) -> io::Result<Self> {
        let own = match Own::make(place) {
            Err(error) if is_full(&error) => {
                tracing::warn!(folder = ?place, %error, "nothing can be copied for now");
                None
            }
            own => Some(own?),
        };
        let place = place.to_owned();
        Ok(Self { place, own })
    }

    /// A new empty folder, removed with the value unless it is kept.
    pub(super) fn folder(&mut self) -> io::Result<TempDir> {
        let own = match &self.own {
            Some(own) => own,
            None => self.own.insert(Own::make(&self.place)?),
        };
        // Whoever cleans temporary folders may have been here.
        fs::create_dir_all(&own.folder)?;
        tempfile::tempdir_in(&own.folder)
    }
}

// === impl Own ===

impl Own {
    fn make(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        sweep(place);
        for _ in 0..TRIES {
            if let Some(own) = Self::try_make(place)? {
                return Ok(own);
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Nothing when another sidecar took it for what a killed one had left.
    fn try_make(place: &Path) -> io::Result<Option<Self>> {
        let lock = tempfile::Builder::new()
            .suffix(&format!(".{LOCK}"))
            .tempfile_in(place)?
            .into_temp_path();
        // Locked before the folder is made: only folders of which the lock is free are swept.
        let Some(held) = files::try_lock(&lock) else {
            return Ok(None);
        };
        let folder = lock.with_extension("");
        fs::create_dir(&folder)?;
        let lock = lock.keep().map_err(|error| error.error)?;
        Ok(Some(Self {
            folder,
            lock,
            held: Some(held),
        }))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        if let Some(held) = self.held.take() {
            let _ = files::remove_lock(&self.lock, held);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == LOCK)
            && let Some(alone) = files::try_lock(&path)
        {
            let folder = path.with_extension("");
            match fs::remove_dir_all(&folder) {
                Err(error) if folder.exists() => {
                    tracing::debug!(?folder, %error, "a killed sidecar's copies stay");
                }
                _ => drop(files::remove_lock(&path, alone)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)] // Wine keeps a file open for each lock that was tried.
    #[test]
    fn sidecars_that_start_at_the_same_moment_have_a_folder_each() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let place = tempfile::tempdir().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    sweep(place.path());
                }
            });
            let made: Vec<io::Result<Vec<_>>> = (0..5)
                .map(|_| (0..200).map(|_| Own::make(place.path())).collect())
                .map(|made: io::Result<Vec<Own>>| {
                    made.map(|made| made.iter().map(|own| own.folder.is_dir()).collect())
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            for made in made {
                assert_eq!(made.unwrap(), [true; 200]);
            }
        });
    }

    #[test]
    fn what_a_killed_sidecar_left_is_removed_and_what_a_live_one_makes_is_not() {
        let place = tempfile::tempdir().unwrap();
        let mut live = Staging::open(place.path()).unwrap();
        let making = live.folder().unwrap();
        let mut dead = Staging::open(place.path()).unwrap();
        let left = dead.folder().unwrap().keep();
        // Killed: nothing is removed, and the system lets the lock go.
        let mut dead = std::mem::ManuallyDrop::new(dead.own.take().unwrap());
        let killed = (dead.folder.clone(), dead.lock.clone());
        assert!(killed.0.exists() && killed.1.exists());
        dead.held = None;
        let _next = Staging::open(place.path()).unwrap();
        assert!(making.path().exists());
        assert!(!left.exists() && !killed.0.exists() && !killed.1.exists());
    }
}
