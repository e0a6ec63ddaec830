//! The folder of a sidecar's unfinished copies, which others remove after it was killed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::os::files::{self, Access};

const LOCK: &str = "lock";
/// Number of attempts, while another sidecar takes the folder for a leftover.
const TRIES: u32 = 20;

/// One sidecar's folder for unfinished copies.
#[derive(Debug)]
pub(super) struct Staging {
    parent: PathBuf,
    /// `None` as long as the disk is full.
    own: Option<OwnFolder>,
}

#[derive(Debug)]
struct OwnFolder {
    folder: PathBuf,
    lock: PathBuf,
    /// The lock, for as long as this lives.
    held: Option<File>,
}

/// A folder for an unfinished copy, which is removed with the value unless it is kept.
#[derive(Debug)]
pub struct StagingFolder {
    path: PathBuf,
    is_kept: bool,
}

// === impl StagingFolder ===

impl StagingFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for StagingFolder {
    fn drop(&mut self) {
        if !self.is_kept {
            // If it cannot be removed, the next start tries again.
            let _ = files::remove_tree(&self.path);
        }
    }
}

// === impl Staging ===

impl Staging {
    /// Makes a folder in `parent`, and removes those of killed sidecars. On a full disk the first
    /// copy makes it: existing copies run without.
    pub(super) fn open(parent: &Path) -> io::Result<Self> {
        let own = match OwnFolder::make(parent) {
            Err(error) if files::is_full(&error) => {
                tracing::warn!(
                    event = "staging_unavailable",
                    folder = %parent.display(),
                    %error,
                    "no artifact can be copied until there is room for it"
                );
                None
            }
            own => Some(own?),
        };
        let parent = parent.to_owned();
        Ok(Self { parent, own })
    }

    /// Returns a new empty folder.
    pub(super) fn folder(&mut self) -> io::Result<StagingFolder> {
        let own = match &self.own {
            Some(own) => own,
            None => self.own.insert(OwnFolder::make(&self.parent)?),
        };
        // A cleaner of temporary folders may have removed it.
        files::make_own_folder(&own.folder, Access::None)?;
        let path = tempfile::tempdir_in(&own.folder)?.keep();
        Ok(StagingFolder {
            path,
            is_kept: false,
        })
    }
}

// === impl OwnFolder ===

impl OwnFolder {
    fn make(parent: &Path) -> io::Result<Self> {
        files::make_own_folder(parent, Access::None)?;
        sweep(parent);
        for _ in 0..TRIES {
            if let Some(own) = Self::try_make(parent)? {
                return Ok(own);
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Returns `None` when another sidecar has removed the folder as a leftover.
    fn try_make(parent: &Path) -> io::Result<Option<Self>> {
        let lock = tempfile::Builder::new()
            .suffix(&format!(".{LOCK}"))
            .tempfile_in(parent)?
            .into_temp_path();
        // Locked before the folder is made: only folders whose lock is free are removed.
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

impl Drop for OwnFolder {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.folder);
        if let Some(held) = self.held.take() {
            let _ = files::remove_lock(&self.lock, held);
        }
    }
}

fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == LOCK)
            && let Some(alone) = files::try_lock(&path)
        {
            let folder = path.with_extension("");
            match files::remove_tree(&folder) {
                Err(error) if folder.exists() => {
                    tracing::debug!(
                        event = "staging_not_removed",
                        folder = %folder.display(),
                        %error,
                        "cannot remove the unfinished copies of a killed sidecar"
                    );
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

        let parent = tempfile::tempdir().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    sweep(parent.path());
                }
            });
            let made: Vec<io::Result<Vec<_>>> = (0..5)
                .map(|_| (0..200).map(|_| OwnFolder::make(parent.path())).collect())
                .map(|made: io::Result<Vec<OwnFolder>>| {
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
        let parent = tempfile::tempdir().unwrap();
        let mut live = Staging::open(parent.path()).unwrap();
        let making = live.folder().unwrap();
        let mut dead = Staging::open(parent.path()).unwrap();
        let left = dead.folder().unwrap().keep();
        // The system releases the lock of a killed process, and nothing is removed.
        let mut dead = std::mem::ManuallyDrop::new(dead.own.take().unwrap());
        let killed = (dead.folder.clone(), dead.lock.clone());
        assert!(killed.0.exists() && killed.1.exists());
        dead.held = None;
        let _next = Staging::open(parent.path()).unwrap();
        assert!(making.path().exists());
        assert!(!left.exists() && !killed.0.exists() && !killed.1.exists());
    }
}
