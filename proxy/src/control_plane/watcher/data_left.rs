//! The watcher's look for data that a superseded release has left in its private copy.

use std::path::{Path, PathBuf};

use super::{WatchEvent, WatchRequest, WatchThread, Watcher};
use crate::deployment::status::DataLeft;
use crate::release::ReleaseId;

/// Maximum number of files that are named.
const MAX_NAMES: usize = 5;

impl Watcher {
    /// Looks for data that a superseded release has written into its private copy.
    /// [`WatchEvent::DataLeft`] follows.
    pub fn look_for_data(&self, release: ReleaseId, artifact: PathBuf) {
        // A full channel loses a warning.
        let _ = (self.wake).try_send(WatchRequest::LookForData(release, artifact));
    }
}

impl WatchThread {
    pub(super) fn look_for_data(&self, release: ReleaseId, artifact: &Path) {
        let mut files = self.store.data_written_into(artifact);
        let count = files.len();
        files.truncate(MAX_NAMES);
        let left = (count > 0).then(|| DataLeft {
            release,
            folder: artifact.display().to_string(),
            files,
            count,
        });
        if let Some(left) = &left {
            tracing::warn!(
                event = "data_left_in_copy",
                release = %left.release,
                folder = left.folder,
                files = left.files.join(", "),
                count,
                "the superseded release wrote data into its private copy, where no other release \
                 finds it: let the app keep its data in {{shared}}"
            );
        }
        let _ = self.found.send(WatchEvent::DataLeft(left));
    }
}
