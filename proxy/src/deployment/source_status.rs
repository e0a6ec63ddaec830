//! The options of a sidecar that name its artifact, as the status has them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::path_serde;
use super::source::Source;

/// The options of a sidecar that name the artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `--artifact`
    #[serde(serialize_with = "path_serde::shown")]
    pub artifact: Option<PathBuf>,
    /// `--pointer`
    #[serde(serialize_with = "path_serde::shown")]
    pub pointer: Option<PathBuf>,
    /// `--watch`
    #[serde(serialize_with = "path_serde::shown")]
    pub watch: Option<PathBuf>,
    /// `--poll`: the time between two looks for changes where the system reports none, in
    /// milliseconds.
    pub poll_ms: Option<u64>,
}

// === impl SourceStatus ===

impl From<&Source> for SourceStatus {
    fn from(source: &Source) -> Self {
        let (artifact, pointer, watch) = match source.clone() {
            Source::Artifact(path) => (Some(path), None, None),
            Source::Pointer { file, folder } => (None, Some(file), folder),
            Source::Folder(folder) => (None, None, Some(folder)),
        };
        Self {
            artifact,
            pointer,
            watch,
            poll_ms: None,
        }
    }
}
