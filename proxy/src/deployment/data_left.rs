//! Data that a release has left behind, as the status shows it.

use serde::{Deserialize, Serialize};

use crate::release::ReleaseId;

/// Data files that a superseded release has written into its private copy, where no other release
/// finds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLeft {
    /// The superseded release.
    pub release: ReleaseId,
    /// Path of its private copy.
    pub folder: String,
    /// Paths of some of the files in it.
    pub files: Vec<String>,
    /// Number of all such files.
    pub count: usize,
}
