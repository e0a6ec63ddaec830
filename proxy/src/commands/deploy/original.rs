//! The artifact that is deployed, where the deployer has it.

use std::path::PathBuf;

use super::error::DeployError;
use crate::commands::progress::Progress;
use crate::deployment::digest::digests;
use crate::os::rights::Rights;
use crate::release::Digest;

/// The original of a deploy.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
    /// Rights with which it is read: it may be one that the owner of the deployment cannot read.
    pub(super) rights: Rights,
}

// === impl Original ===

impl Original {
    /// Describes what is at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        let rights = Rights::over(&path);
        Self {
            is_folder: rights.apply(|| Ok(path.is_dir())).unwrap_or(false),
            rights,
            path,
        }
    }

    /// Reads all of it, and returns its digest.
    pub(super) fn digest(&self, progress: &mut Progress) -> Result<Digest, DeployError> {
        let reading = format!("reading {:?}", self.path);
        let digests = self
            .rights
            .apply(|| progress.show_during(&reading, || digests(&self.path)));
        let digests = digests.map_err(|source| DeployError::Read {
            path: self.path.clone(),
            source,
        })?;
        if self.is_folder && digests.is_of_nothing() {
            return Err(DeployError::Empty(self.path.clone()));
        }
        Ok(digests.whole)
    }
}
