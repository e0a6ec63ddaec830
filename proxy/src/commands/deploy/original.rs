//! The artifact that is deployed, where the deployer has it.

use std::path::PathBuf;

use crate::os::rights::Rights;

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
}
