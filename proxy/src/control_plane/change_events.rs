//! Change events of the system for a set of files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventHandler, EventKind, RecommendedWatcher, RecursiveMode};
use notify::{ErrorKind, Watcher as _};

use super::watch_set::{Relevance, WatchDepth, WatchSet};
use crate::os::files::{self, FileIdentity};
use crate::os::thread::EXIT_GRACE;

/// Maximum number of names that are remembered as renamed.
const MAX_RENAMED: usize = 64;

/// The files that are watched. Events may be missing unless [`ChangeEvents::are_reliable`].
pub(super) struct ChangeEvents {
    watcher: Option<RecommendedWatcher>,
    /// The library's thread holds the sender, and never sends: its end closes the channel.
    running: Receiver<()>,
    watched: HashMap<PathBuf, WatchedFolder>,
    notes: Arc<Mutex<Notes>>,
    /// False if a folder cannot be watched.
    is_complete: bool,
    /// True once the system has refused to watch that many folders.
    is_limit_reached: bool,
}

struct WatchedFolder {
    /// Identity of the folder when its watch began: a folder that was made again has another one.
    identity: Option<FileIdentity>,
    depth: WatchDepth,
}

/// The changes since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// True if something has changed.
    pub(super) is_any: bool,
    /// True if something in the artifact's folder may have changed.
    pub(super) is_in_tree: bool,
    /// True if a file that was open for writing was closed.
    pub(super) is_closed: bool,
}

/// The record that the library's thread makes of events.
struct Notes {
    set: WatchSet,
    news: News,
    /// Paths that were renamed to what they are, and have not been changed since, with the number of
    /// the renaming.
    renamed: HashMap<PathBuf, u64>,
    renamings: u64,
    /// Paths whose watch may have ended with them.
    lost: Vec<PathBuf>,
    is_all_lost: bool,
    has_failed: bool,
}

/// The callback of the library's thread.
struct ChangeHandler<F> {
    notes: Arc<Mutex<Notes>>,
    changed: F,
    /// Dropped after the callback.
    _ended: Sender<()>,
}

// === impl ChangeEvents ===

impl ChangeEvents {
    /// Calls `changed` when there is news where there was none.
    pub(super) fn new(changed: impl Fn() + Send + 'static) -> Self {
        let (_ended, running) = channel();
        let notes = Arc::new(Mutex::new(Notes::new()));
        let handler = ChangeHandler {
            notes: Arc::clone(&notes),
            changed,
            _ended,
        };
        // A link in an artifact is a file.
        let config = Config::default().with_follow_symlinks(false);
        Self {
            watcher: RecommendedWatcher::new(handler, config)
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
            notes,
            is_complete: false,
            is_limit_reached: false,
        }
    }

    /// Creates a set without events.
    pub(super) fn none() -> Self {
        Self {
            watcher: None,
            running: channel().1,
            watched: HashMap::new(),
            notes: Arc::new(Mutex::new(Notes::new())),
            is_complete: false,
            is_limit_reached: false,
        }
    }

    /// Watches these files, and no others. Returns true if a watch has begun: what changed before is
    /// not reported.
    pub(super) fn watch(&mut self, set: WatchSet) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let (lost, is_all_lost) = {
            let mut notes = lock(&self.notes);
            (
                std::mem::take(&mut notes.lost),
                std::mem::take(&mut notes.is_all_lost),
            )
        };
        let is_lost = |folder: &Path| is_all_lost || lost.iter().any(|it| folder.starts_with(it));
        let wanted: Vec<_> = (set.folders().iter())
            .map(|(folder, &depth)| (folder.clone(), depth, identity(folder)))
            .collect();
        // Before the watches begin: their first event has to be understood.
        lock(&self.notes).set = set;
        self.watched.retain(|folder, watched| {
            let is_same = wanted.iter().any(|(path, depth, identity)| {
                (path, *depth, *identity) == (folder, watched.depth, watched.identity)
            });
            let keep = is_same && !is_lost(folder);
            if !keep {
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        self.is_complete = true;
        let mut has_begun = false;
        for (folder, depth, identity) in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            let mode = match depth {
                WatchDepth::Entries => RecursiveMode::NonRecursive,
                WatchDepth::Tree => RecursiveMode::Recursive,
            };
            if let Err(error) = watcher.watch(&folder, mode) {
                self.is_complete = false;
                let is_limit = matches!(error.kind, ErrorKind::MaxFilesWatch);
                if depth == WatchDepth::Tree {
                    // Some of its folders may be watched.
                    let _ = watcher.unwatch(&folder);
                }
                if is_limit && !std::mem::replace(&mut self.is_limit_reached, true) {
                    tracing::warn!(
                        event = "change_events_limited",
                        folder = %folder.display(),
                        "the system watches no more folders: this one is polled \
                         (fs.inotify.max_user_watches)"
                    );
                }
                continue;
            }
            has_begun = true;
            self.watched
                .insert(folder, WatchedFolder { identity, depth });
        }
        has_begun
    }

    /// Returns what has changed since the last call.
    pub(super) fn take_news(&self) -> News {
        std::mem::take(&mut lock(&self.notes).news)
    }

    /// Returns true if no change of a watched file goes unnoticed.
    pub(super) fn are_reliable(&self) -> bool {
        let notes = lock(&self.notes);
        self.watcher.is_some() && self.is_complete && !notes.has_failed && notes.set.is_reliable()
    }

    /// Returns true if no change in the artifact's folder goes unnoticed.
    pub(super) fn cover_tree(&self) -> bool {
        self.are_reliable() && lock(&self.notes).set.has_tree()
    }

    /// Returns true if the system has watches left for all folders of a tree.
    pub(super) fn may_watch_tree(&self) -> bool {
        self.watcher.is_some() && !self.is_limit_reached
    }

    /// Returns the number of the renaming by which the artifact became what it is, if no change of it
    /// was reported since.
    pub(super) fn renaming_of_artifact(&self) -> Option<u64> {
        let notes = lock(&self.notes);
        notes.renamed.get(notes.set.artifact()?).copied()
    }
}

// === impl Notes ===

impl Notes {
    fn new() -> Self {
        Self {
            set: WatchSet::new(),
            news: News::default(),
            renamed: HashMap::new(),
            renamings: 0,
            lost: Vec::new(),
            is_all_lost: false,
            has_failed: false,
        }
    }

    /// Records an event. Returns true if it is the first news since the last look.
    fn note(&mut self, event: notify::Result<Event>) -> bool {
        let before = self.news.is_any;
        match event {
            Ok(event) if event.need_rescan() => {
                self.is_all_lost = true;
                self.note_unknown();
            }
            Ok(event) => self.note_change(&event),
            Err(_) => {
                self.has_failed = true;
                self.note_unknown();
            }
        }
        self.news.is_any && !before
    }

    /// Records that anything may have changed.
    fn note_unknown(&mut self) {
        self.renamed.clear();
        self.news = News {
            is_any: true,
            is_in_tree: true,
            is_closed: true,
        };
    }

    fn note_change(&mut self, event: &Event) {
        let is_close = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
        // A look reads the pointer file: events of reading would cause looks for ever. And both
        // names of a renaming have been reported one by one.
        let is_both = event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        if event.kind.is_access() && !is_close || is_both {
            return;
        }
        let is_renamed = event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let is_gone = event.kind.is_remove()
            || event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::From));
        for path in &event.paths {
            self.renamed.retain(|renamed, _| !path.starts_with(renamed));
            if is_gone && self.set.folders().keys().any(|it| it.starts_with(path)) {
                self.lost.push(path.clone());
            }
            let Some(relevance) = self.set.relevance_of(path) else {
                continue;
            };
            if is_renamed && self.renamed.len() < MAX_RENAMED {
                self.renamings += 1;
                self.renamed.insert(path.clone(), self.renamings);
            }
            self.news.is_any = true;
            self.news.is_in_tree |= relevance == Relevance::Tree;
            self.news.is_closed |= is_close;
        }
    }
}

// === impl ChangeHandler ===

impl<F: Fn() + Send + 'static> EventHandler for ChangeHandler<F> {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let is_news = lock(&self.notes).note(event);
        if is_news {
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

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the identity of a folder, if it exists.
fn identity(folder: &Path) -> Option<FileIdentity> {
    let metadata = fs::metadata(folder).ok()?;
    metadata.is_dir().then(|| files::identity(&metadata))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn watch(path: &Path) -> (ChangeEvents, Receiver<()>) {
        let (changed, changes) = channel();
        let mut events = ChangeEvents::new(move || {
            let _ = changed.send(());
        });
        let mut set = WatchSet::new();
        set.add_artifact(path);
        set.add_artifact_tree();
        events.watch(set);
        (events, changes)
    }

    #[test]
    fn nothing_is_called_once_they_are_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let (events, changes) = watch(&folder.path().join("app"));
        drop(events);
        assert_eq!(changes.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn a_change_is_reported_once_until_it_is_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = files::canonical(folder.path()).unwrap();
        let app = folder.join("app");
        fs::create_dir_all(&folder).unwrap();
        let (events, changes) = watch(&app);
        // Beside it, nothing matters.
        fs::write(folder.join("app.log"), "1").unwrap();
        fs::write(&app, "1").unwrap();
        changes.recv_timeout(PATIENCE).expect("news");
        assert!(events.take_news().is_any);
        fs::write(&app, "2").unwrap();
        changes.recv_timeout(PATIENCE).expect("news again");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_what_was_renamed_and_not_changed_since_is_whole() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let folder = folder.path().canonicalize().unwrap();
        fs::create_dir_all(&folder).unwrap();
        let (app, new) = (folder.join("app"), folder.join("new"));
        let (events, changes) = watch(&app);
        let settle = |events: &ChangeEvents| {
            changes.recv_timeout(PATIENCE).expect("news");
            // All events of the change are there once another one's is.
            let mark = folder.join("app.sha256");
            events.take_news();
            fs::write(&mark, "").unwrap();
            while changes.recv_timeout(PATIENCE).is_ok() {
                let news = events.take_news();
                if news.is_closed {
                    break;
                }
            }
        };
        fs::write(&new, "1").unwrap();
        fs::rename(&new, &app).unwrap();
        settle(&events);
        assert_eq!(events.renaming_of_artifact(), Some(1));
        fs::write(&app, "12").unwrap();
        settle(&events);
        assert_eq!(events.renaming_of_artifact(), None);
    }
}
