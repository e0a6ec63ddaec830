//! The part of a deployment that its sidecars share.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

/// The folder that is deployed to, and the state beside it. It lasts as long as a sidecar or a test
/// that uses it.
#[derive(Clone, Debug)]
pub struct Deployment {
    folder: Arc<TempDir>,
    root: PathBuf,
}

// === impl Deployment ===

impl Default for Deployment {
    fn default() -> Self {
        Self::new(|folder| folder)
    }
}

impl Deployment {
    /// All of it is at `place` in a folder of its own.
    pub(crate) fn new(place: fn(PathBuf) -> PathBuf) -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = place(known(folder.path()));
        fs::create_dir_all(root.join("site/releases")).expect("a folder");
        let folder = Arc::new(folder);
        Self { folder, root }
    }

    /// The folder that is deployed to.
    pub fn site(&self) -> PathBuf {
        self.root.join("site")
    }

    /// `--state`
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// A folder that handoff knows nothing of.
    pub fn elsewhere(&self) -> PathBuf {
        self.root.join("elsewhere")
    }

    /// Returns whether no other sidecar uses it.
    pub fn is_ours_alone(&self) -> bool {
        Arc::strong_count(&self.folder) == 1
    }

    /// All of it.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// A folder by the path that the system shows. (Windows' is verbatim then, and stays as it is.)
pub(crate) fn known(folder: &Path) -> PathBuf {
    if cfg!(windows) {
        folder.to_owned()
    } else {
        fs::canonicalize(folder).expect("a folder")
    }
}

/// All files and folders below this one.
pub fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let paths = entries.flat_map(|entry| {
        let path = entry.path();
        let below = if path.is_dir() {
            files(&path)
        } else {
            BTreeSet::new()
        };
        below.into_iter().chain([path])
    });
    paths.collect()
}
