//! The ways to deploy: where the files go, and what handoff is told of them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::release::Release;
use crate::wait;

/// Way in which an operator says what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A text file names the artifact.
    Pointer,
    /// The newest artifact in a folder.
    Folder,
    /// One artifact, overwritten.
    InPlace,
}

impl Source {
    /// The option that tells handoff where to look in `site`.
    pub(crate) fn option(self, site: &Path) -> (&'static str, PathBuf) {
        match self {
            Self::Pointer => ("--pointer", pointer(site)),
            Self::Folder => ("--watch", site.join("releases")),
            Self::InPlace => ("--artifact", in_place(site)),
        }
    }

    /// Makes `release` the one that should run.
    pub(crate) fn deploy(self, site: &Path, release: &Release) {
        match self {
            Self::Pointer => {
                let path = upload(site, release);
                point(site, format!("{}\n", path.display()).as_bytes());
            }
            Self::Folder => release.write_to(&site.join("releases").join(release.file_name())),
            Self::InPlace => release.write_to(&in_place(site)),
        }
    }
}

/// Overwrites a file piece by piece, as over a slow line; the file is closed between two of them.
pub fn overwrite_slowly(path: &Path, content: &[u8], pieces: usize, pause: Duration) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    drop(options.open(path).expect("the file"));
    for piece in content.chunks(content.len().div_ceil(pieces)) {
        let mut file = fs::OpenOptions::new().append(true).open(path);
        let file = file.as_mut().expect("the file");
        file.write_all(piece).expect("a piece");
        wait::sleep_for(pause, "a slow line");
    }
}

/// Puts the artifact where a pointer can name it.
pub(crate) fn upload(site: &Path, release: &Release) -> PathBuf {
    let path = site.join("uploads").join(release.file_name());
    release.write_to(&path);
    path
}

/// Replaces the pointer file: a reader sees the old content or the new.
pub(crate) fn point(site: &Path, content: &[u8]) {
    let new = site.join("_artifact.new");
    fs::write(&new, content).expect("a pointer file");
    crate::eventually(
        || "the pointer file can be replaced".to_owned(),
        // On Windows not while somebody reads it.
        || fs::rename(&new, pointer(site)).ok(),
    );
}

fn pointer(site: &Path) -> PathBuf {
    site.join("_artifact.txt")
}

/// Folders, too, have this name: nothing depends on the suffix.
fn in_place(site: &Path) -> PathBuf {
    site.join(format!("app{}", std::env::consts::EXE_SUFFIX))
}
