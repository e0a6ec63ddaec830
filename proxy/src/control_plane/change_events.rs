//! Change events of the system for a set of folders.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventHandler, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::os::files::{self, FileIdentity};
use crate::os::thread::EXIT_GRACE;

/// The folders that are watched. Events may be missing.
pub(super) struct ChangeEvents {
    watcher: Option<RecommendedWatcher>,
    /// The library's thread holds the sender, and never sends: its end closes the channel.
    running: Receiver<()>,
    watched: HashMap<PathBuf, WatchedFolder>,
}

struct WatchedFolder {
    /// FileIdentity of the folder when its watch began: a folder that was made again has another one.
    identity: Option<FileIdentity>,
    is_watched: bool,
}

/// The callback of the library's thread.
struct ChangeHandler<F> {
    changed: F,
    /// Dropped after the callback.
    _ended: Sender<()>,
}

// === impl ChangeEvents ===

impl ChangeEvents {
    /// Calls `changed` on each event.
    pub(super) fn new(changed: impl Fn() + Send + 'static) -> Self {
        let (_ended, running) = channel();
        let handler = ChangeHandler { changed, _ended };
        Self {
            watcher: notify::recommended_watcher(handler)
                .inspect_err(|error| {
                    tracing::warn!(
                        event = "change_events_unavailable",
                        %error,
                        "the system gives no change events: new artifacts are found by polling only"
                    );
                })
                .ok(),
            running,
            watched: HashMap::new(),
        }
    }

    /// Creates a set without events.
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
        let now: HashMap<&Path, Option<FileIdentity>> = folders
            .iter()
            .map(|&folder| (folder, identity(folder)))
            .collect();
        self.watched.retain(|folder, watched| {
            let keep = now.get(folder.as_path()) == Some(&watched.identity);
            if !keep && watched.is_watched {
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        for (folder, identity) in now {
            if !self.watched.contains_key(folder) {
                let is_watched = watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
                let watched = WatchedFolder {
                    identity,
                    is_watched,
                };
                self.watched.insert(folder.to_owned(), watched);
            }
        }
    }
}

impl<F: Fn() + Send + 'static> EventHandler for ChangeHandler<F> {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        // A scan reads the pointer file: events of reading would cause scans for ever.
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let only_read = event.is_ok_and(|e| e.kind.is_access() && e.kind != written);
        if !only_read {
            (self.changed)();
        }
    }
}

impl Drop for ChangeEvents {
    fn drop(&mut self) {
        drop(self.watcher.take());
        // The library gives no thread to join.
        let _ = self.running.recv_timeout(EXIT_GRACE);
    }
}

/// Returns the identity of a folder, if it exists.
fn identity(folder: &Path) -> Option<FileIdentity> {
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
        let mut events = ChangeEvents::new(move || {
            let _ = changed.send(());
        });
        events.watch(&[folder.path()]);
        drop(events);
        assert_eq!(changes.try_recv(), Err(TryRecvError::Disconnected));
    }
}
