//! The content of an artifact, and the one that is read while the artifact settles: the time until it
//! counts as complete is used.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::staging::StagingFolder;
use crate::deployment::Fingerprint;
use crate::deployment::copy::WayBack;
use crate::deployment::digest::Digests;

/// The content of an artifact that has been read.
#[derive(Debug)]
pub(super) struct Content {
    /// Time at which the reading began.
    pub(super) read: SystemTime,
    pub(super) digests: Digests,
    pub(super) shape: String,
    /// Entries of the copy that lead into the original.
    pub(super) ways_back: Vec<WayBack>,
    /// Programs that lose privileges in the copy, by their names.
    pub(super) unprivileged: Vec<String>,
    /// The private copy: a folder, and a name in it.
    pub(super) copy: Option<(StagingFolder, OsString)>,
}

/// The content of an artifact that was read before it counted as complete.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) fingerprint: Fingerprint,
    /// `None` if it could not be read.
    pub(super) content: Option<Content>,
}

// === impl Prepared ===

impl Prepared {
    /// Returns true if it is of this state of the artifact.
    pub(super) fn is_of(&self, path: &Path, fingerprint: &Fingerprint) -> bool {
        (&*self.path, &self.fingerprint) == (path, fingerprint)
    }

    /// Returns the content, if it is that of this state of the artifact.
    pub(super) fn content_of(self, path: &Path, fingerprint: &Fingerprint) -> Option<Content> {
        if self.is_of(path, fingerprint) {
            self.content
        } else {
            None
        }
    }
}
