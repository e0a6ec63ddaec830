//! The watcher's handling of a newest artifact that is not complete, or cannot serve.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{WatchEvent, WatchThread};
use crate::control_plane::artifact::{SettleProgress, Store};
use crate::deployment::drop_folder::TimeOfArrival;
use crate::deployment::status::Settling;
use crate::deployment::{DropFolder, Fingerprint};

/// The older artifacts, which are launched if the newest one cannot serve.
#[derive(Debug)]
pub(super) struct OlderArtifacts {
    /// False if an earlier sidecar has left a release that can serve, so that not all are needed.
    pub(super) are_needed: bool,
    /// True once one was copied because no newer one could be.
    pub(super) has_replaced_newest: bool,
    /// Artifacts that are not tried again until they change.
    pub(super) tried: Vec<(PathBuf, Fingerprint)>,
}

impl WatchThread {
    pub(super) fn show_settling(&mut self, progress: Option<SettleProgress>) {
        if self.settling_shown == progress {
            return;
        }
        let settling = progress.as_ref().map(|progress| {
            let changed = SystemTime::now().checked_sub(progress.unchanged_since.elapsed());
            Settling {
                artifact: progress.path.display().to_string(),
                period_ms: u64::try_from(progress.period.as_millis()).unwrap_or(u64::MAX),
                changed_ms: changed.unwrap_or(SystemTime::UNIX_EPOCH).into(),
                sees_writers: progress.sees_writers,
            }
        });
        if let Some(progress) = &progress
            && self.settling_logged.as_ref() != Some(&progress.path)
        {
            self.settling_logged = Some(progress.path.clone());
            tracing::info!(
                event = "settling",
                artifact = %progress.path.display(),
                period = %humantime::format_duration(progress.period),
                "an artifact without a digest is accepted when it has stopped changing"
            );
        }
        self.settling_shown = progress;
        let _ = self.found.send(WatchEvent::Settling(settling));
    }

    /// Copies the latest of the older artifacts that is complete, and newer than the one that serves.
    /// Returns false if there is none.
    pub(super) fn fall_back(&mut self, serving: Option<&Path>) -> bool {
        let mut targets = self.settings.source.older_targets(&self.folder);
        let newer = match serving {
            // If it was removed, nothing says which ones are newer.
            Some(serving) => targets.iter().position(|target| target.path == serving),
            None => self.older.are_needed.then_some(targets.len()),
        };
        targets.truncate(newer.unwrap_or(0));
        for target in targets {
            let Ok(fingerprint) = Fingerprint::of(&target.path) else {
                continue;
            };
            let detected = SystemTime::now();
            let age = detected.duration_since(fingerprint.changed);
            let is_settled = age.is_ok_and(|age| age >= self.settings.settle.of(&fingerprint));
            let attempt = (target.path.clone(), fingerprint);
            if self.older.tried.contains(&attempt) || target.digest.is_none() && !is_settled {
                continue;
            }
            self.older.tried.push(attempt);
            // The newest one's problem is the one to report.
            if let Ok(release) = self.store.accept(&target) {
                let _ = self.found.send(WatchEvent::Older {
                    release,
                    source: target.path,
                    detected,
                    copied: SystemTime::now(),
                });
                return true;
            }
        }
        false
    }
}

/// Returns a drop folder whose order is remembered on this machine.
pub(super) fn drop_folder(store: &Store) -> DropFolder {
    // A deployment that an older version served may depend on the order of that version.
    let without = if store.has_copies() {
        TimeOfArrival::Changed
    } else {
        TimeOfArrival::Modified
    };
    DropFolder::remembered_in(store.cache().join("memory"), without)
}
