//! Change events for a set of folders, as far as the system has any to give.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventHandler, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::os::files::{self, Identity};
use crate::os::thread::LAST_WORDS;

/// What is watched now. Whether any event ever comes is nobody's promise.
pub(super) struct Events {
    watcher: Option<RecommendedWatcher>,
    /// Nothing is ever sent: that the library's thread has dropped the sender is the message.
    running: Receiver<()>,
    watched: HashMap<PathBuf, Watched>,
}

struct Watched {
    /// Of the folder when its watch was begun: one that vanished and came back is another to the
    /// system, whatever its name is.
    identity: Option<Identity>,
    works: bool,
}

/// What the library's thread has, until its end.
struct Told<F> {
    changed: F,
    /// Dropped after the other.
    _ended: Sender<()>,
}

// === impl Events ===

impl Events {
    /// Calls `changed` when something may have.
    pub(super) fn new(changed: impl Fn() + Send + 'static) -> Self {
        let (_ended, running) = channel();
        let told = Told { changed, _ended };
        Self {
            watcher: notify::recommended_watcher(told)
                .inspect_err(|error| tracing::warn!(%error, "no change events: polling only"))
                .ok(),
            running,
            watched: HashMap::new(),
        }
    }

    /// Never calls anything.
    pub(super) fn none() -> Self {
        Self {
            watcher: None,
            running: channel().1,
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

impl<F: Fn() + Send + 'static> EventHandler for Told<F> {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        // A look reads the pointer file: events for that would make it look for ever.
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let only_read = event.is_ok_and(|e| e.kind.is_access() && e.kind != written);
        if !only_read {
            (self.changed)();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        drop(self.watcher.take());
        // The library gives no thread to join.
        let _ = self.running.recv_timeout(LAST_WORDS);
    }
}

/// None where there is no folder.
fn identity(folder: &Path) -> Option<Identity> {
    let metadata = fs::metadata(folder).ok()?;
    metadata.is_dir().then(|| files::identity(&metadata))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;

    use super::*;

    #[test]
    fn nothing_is_called_once_they_are_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let (changed, changes) = channel();
        let mut events = Events::new(move || {
            let _ = changed.send(());
        });
        events.watch(&[folder.path()]);
        drop(events);
        assert_eq!(changes.try_recv(), Err(TryRecvError::Disconnected));
    }
}
