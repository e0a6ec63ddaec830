//! Change events for a set of folders, as far as the system has any to give.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::files::{self, Identity};

/// What is watched now. Whether any event ever comes is nobody's promise.
pub(super) struct Events {
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Watched>,
}

struct Watched {
    /// Of the folder when its watch was begun: one that vanished and came back is another to the
    /// system, whatever its name is.
    identity: Option<Identity>,
    works: bool,
}

// === impl Events ===

impl Events {
    /// Calls `changed` when something may have.
    pub(super) fn new(changed: impl Fn() + Send + 'static) -> Self {
        let changed = move |event: notify::Result<Event>| {
            // A look reads the pointer file: events for that would make it look for ever.
            let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
            let only_read = event.is_ok_and(|e| e.kind.is_access() && e.kind != written);
            if !only_read {
                changed();
            }
        };
        Self {
            watcher: notify::recommended_watcher(changed)
                .inspect_err(|error| tracing::warn!(%error, "no change events: polling only"))
                .ok(),
            watched: HashMap::new(),
        }
    }

    /// Never calls anything.
    pub(super) fn none() -> Self {
        Self {
            watcher: None,
            watched: HashMap::new(),
        }
    }

    /// Watches these folders, and no others.
    pub(super) fn watch(&mut self, folders: &[&Path]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let now: HashMap<&Path, Option<Identity>> = folders
            .iter()
            .map(|&folder| (folder, identity(folder)))
            .collect();
        self.watched.retain(|folder, watched| {
            let keep = now.get(folder.as_path()) == Some(&watched.identity);
            if !keep && watched.works {
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        for (folder, identity) in now {
            if !self.watched.contains_key(folder) {
                let works = watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
                let watched = Watched { identity, works };
                self.watched.insert(folder.to_owned(), watched);
            }
        }
    }
}

/// None where there is no folder.
fn identity(folder: &Path) -> Option<Identity> {
    let metadata = fs::metadata(folder).ok()?;
    metadata.is_dir().then(|| files::identity(&metadata))
}
