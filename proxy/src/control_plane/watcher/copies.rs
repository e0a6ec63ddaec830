//! Copies that the supervisor requests, of other artifacts than the newest.

use std::path::PathBuf;

use super::{WatchEvent, WatchThread};
use crate::deployment::Target;
use crate::release::Release;

impl WatchThread {
    pub(super) fn fetch(&mut self, target: Target) {
        let release = self.store.accept(&target);
        let release = release.map_err(|error| error.to_string());
        let source = target.path;
        let _ = self.found.send(WatchEvent::Fetched { release, source });
    }

    pub(super) fn restore(&mut self, lost: &Release, deployed: Option<PathBuf>) {
        let present = self.accepted.as_ref();
        let present = present.filter(|accepted| accepted.digest == lost.digest);
        let present = present.map(|accepted| accepted.target.path.clone());
        let mut places: Vec<_> = present.into_iter().chain(deployed).collect();
        places.dedup();
        for place in places {
            match self.store.restore(lost, place) {
                Ok(release) => {
                    let _ = self.found.send(WatchEvent::Restored(release));
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        event = "copy_not_restored",
                        release = %lost.id,
                        %error,
                        "cannot make the lost private copy of a release again"
                    );
                }
            }
        }
    }
}
