//! Turns file changes into "artifact detected".
//!
//! Polling is the authority; change events only make it quick. They get lost on network shares and
//! when their buffer overflows (notify-rs/notify#963), and they never say that a file is complete.
//! All reading, hashing and copying happens here, on a thread of its own with low priority: it
//! never competes with the workers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::artifact::{DropFolder, Fingerprint, Settle, Settling, Source, Store, Target};
use crate::files;
use crate::release::{Release, ReleaseId};

/// After an artifact could not be accepted, unless something changes before.
const RETRY: Duration = Duration::from_millis(250);

/// Where to look, how often, and for how long to wait.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Where the operator says what to run.
    pub source: Source,
    /// How often to look without an event.
    pub poll: Duration,
    /// How long an artifact without a digest has to rest.
    pub settle: Settle,
}

/// What the watcher reports.
#[derive(Clone, Debug)]
pub enum Found {
    /// A whole artifact, copied.
    Release {
        /// Ready to be launched.
        release: Release,
        /// When it was first seen.
        detected: SystemTime,
        /// When its private copy was complete.
        copied: SystemTime,
    },
    /// Why there is none now, once for each new reason; `None` when that is over.
    Problem(Option<String>),
}

/// The thread that watches. It ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    wake: SyncSender<Wake>,
}

enum Wake {
    Changed,
    Prune(Vec<ReleaseId>),
}

// === impl Watcher ===

impl Watcher {
    /// Starts to watch, and reports to `found`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        settings: WatchSettings,
        store: Store,
        found: UnboundedSender<Found>,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(16);
        let events = wake.clone();
        thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || {
                files::lower_priority();
                Watch::new(settings, store, found, events).run(&woken);
            })?;
        Ok(Self { wake })
    }

    /// Has the copies removed that are not among `needed`.
    pub fn prune(&self, needed: Vec<ReleaseId>) {
        // Full: the next one says the same, or more.
        let _ = self.wake.try_send(Wake::Prune(needed));
    }
}

/// What the thread knows.
struct Watch {
    settings: WatchSettings,
    store: Store,
    found: UnboundedSender<Found>,
    folder: DropFolder,
    settling: Settling,
    events: Events,
    detected: Option<(PathBuf, SystemTime)>,
    accepted: Option<(Target, Fingerprint)>,
    problem: Option<String>,
}

impl Watch {
    fn new(
        settings: WatchSettings,
        store: Store,
        found: UnboundedSender<Found>,
        wake: SyncSender<Wake>,
    ) -> Self {
        Self {
            settling: Settling::new(settings.settle),
            settings,
            store,
            found,
            folder: DropFolder::default(),
            events: Events::new(wake),
            detected: None,
            accepted: None,
            problem: None,
        }
    }

    fn run(&mut self, woken: &Receiver<Wake>) {
        loop {
            let again = self.look();
            if self.found.is_closed() {
                return;
            }
            let mut wake = woken.recv_timeout(again);
            loop {
                match wake {
                    Ok(Wake::Prune(needed)) => self.store.prune(&needed),
                    Ok(Wake::Changed) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                // One look answers all events that are there.
                wake = match woken.try_recv() {
                    Ok(wake) => Ok(wake),
                    Err(_) => break,
                };
            }
        }
    }

    /// Looks once; says when to look again.
    fn look(&mut self) -> Duration {
        let poll = self.settings.poll;
        let target = self.settings.source.target(&mut self.folder);
        let watched = self.settings.source.watched(target.as_ref().ok());
        self.events.watch(&watched);
        let target = match target {
            Ok(target) => target,
            Err(reason) => {
                self.report(Some(reason.to_string()));
                return poll;
            }
        };
        // Gone since: the next look tells.
        let Ok(fingerprint) = Fingerprint::of(&target.path) else {
            return RETRY.min(poll);
        };
        if self
            .accepted
            .as_ref()
            .is_some_and(|(accepted, print)| *accepted == target && *print == fingerprint)
        {
            self.report(None);
            return poll;
        }
        let now = SystemTime::now();
        let detected = match &self.detected {
            Some((path, detected)) if *path == target.path => *detected,
            _ => now,
        };
        self.detected = Some((target.path.clone(), detected));
        if target.digest.is_none() {
            let age = now.duration_since(fingerprint.changed).ok();
            let wait = self
                .settling
                .observe(&target.path, &fingerprint, Instant::now(), age);
            if !wait.is_zero() {
                return wait.min(poll);
            }
        }
        match self.store.accept(&target) {
            Ok(release) => {
                self.accepted = Some((target, fingerprint));
                self.detected = None;
                self.report(None);
                // The supervisor is gone at shutdown only.
                let _ = self.found.send(Found::Release {
                    release,
                    detected,
                    copied: SystemTime::now(),
                });
                poll
            }
            Err(reason) => {
                self.report(Some(reason.to_string()));
                RETRY.min(poll)
            }
        }
    }

    fn report(&mut self, problem: Option<String>) {
        if self.problem != problem {
            self.problem.clone_from(&problem);
            let _ = self.found.send(Found::Problem(problem));
        }
    }
}

/// Change events for a set of folders, as far as the system has any to give.
struct Events {
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, bool>,
}

impl Events {
    fn new(wake: SyncSender<Wake>) -> Self {
        let changed = move |event: notify::Result<Event>| {
            // A look reads the pointer file: events for that would make it look for ever.
            let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
            let only_read = event.is_ok_and(|e| e.kind.is_access() && e.kind != written);
            if !only_read {
                // Full: a look is due anyway.
                let _ = wake.try_send(Wake::Changed);
            }
        };
        Self {
            watcher: notify::recommended_watcher(changed)
                .inspect_err(|error| tracing::warn!(%error, "no change events: polling only"))
                .ok(),
            watched: HashMap::new(),
        }
    }

    fn watch(&mut self, folders: &[&Path]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        self.watched.retain(|folder, works| {
            // A folder that vanished and came back is another one to the system.
            let keep = folders.contains(&folder.as_path()) && folder.is_dir() == *works;
            if !keep && *works {
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        for &folder in folders {
            if !self.watched.contains_key(folder) {
                let works = watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
                self.watched.insert(folder.to_owned(), works);
            }
        }
    }
}
