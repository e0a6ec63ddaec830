//! Turns file changes into "artifact detected".
//!
//! Polling is the authority; change events only make it quick. They get lost on network shares and
//! when their buffer overflows (notify-rs/notify#963), and they never say that a file is complete.
//! All reading, hashing and copying happens here, on a thread of its own with low priority: it
//! never competes with the workers.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::artifact::{NotYet, Patience, Problem, RETRY, Settle, Settling, Store};
use super::desired_file::{DesiredChange, DesiredFile};
use super::events::Events;
use super::reread::{News, Reread};
use super::supervisor::Settings;
use crate::deployment::desired::Desired;
use crate::deployment::{DropFolder, Fingerprint, Source, Target};
use crate::os::files;
use crate::os::thread::JoinOnDrop;
use crate::release::{Digest, Release, ReleaseId};

/// From one look to the next, however many events come: a folder may be written to all the time.
const CALM: Duration = Duration::from_millis(50);

/// Where to look, how often, and for how long to wait.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Where the operator says what to run.
    pub source: Source,
    /// How often to look without an event.
    pub poll: Duration,
    /// Whether to look earlier when the system says that something has changed.
    pub events: bool,
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
        /// Where it was deployed.
        source: PathBuf,
        /// When it was first seen.
        detected: SystemTime,
        /// When its private copy was complete.
        copied: SystemTime,
    },
    /// What [`Watcher::fetch`] was asked for, copied; or why not.
    Fetched {
        /// Ready to be launched.
        release: Result<Release, String>,
        /// Where it was deployed.
        source: PathBuf,
    },
    /// What [`Watcher::restore`] was asked for, copied again.
    Restored(Release),
    /// Why there is none now, once for each new reason; `None` when that is over.
    Problem(Option<Problem>),
    /// What commands ask for; at the start once what they asked for before.
    Desired {
        /// What the file says.
        desired: Desired,
        /// Whether it is the first that there was to see.
        at_start: bool,
    },
    /// Why that cannot be known, once for each new reason; `None` when that is over.
    DesiredProblem(Option<String>),
    /// How to run from now on.
    Settings(Box<Settings>),
    /// Why that goes on as before, though its files have changed.
    SettingsProblem(String),
}

/// The thread that watches. It ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    /// The thread ends when this is gone: change events alone do not keep it.
    wake: Arc<SyncSender<Wake>>,
    _thread: JoinOnDrop,
}

enum Wake {
    Changed,
    Prune(Vec<ReleaseId>),
    Fetch(Target),
    Restore(Box<Release>, Option<PathBuf>),
}

/// What was accepted last.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    target: Target,
    fingerprint: Fingerprint,
    digest: Digest,
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
        desired: DesiredFile,
        files: Box<dyn Reread>,
        found: UnboundedSender<Found>,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(16);
        let wake = Arc::new(wake);
        let events = Arc::downgrade(&wake);
        let thread = JoinOnDrop::spawn("watcher", move || {
            files::lower_priority();
            Watch::new(settings, store, desired, files, found, events).run(&woken);
        })?;
        Ok(Self {
            wake,
            _thread: thread,
        })
    }

    /// Has another artifact copied than the one that is deployed now. It answers in any case.
    pub fn fetch(&self, target: Target) -> bool {
        self.wake.try_send(Wake::Fetch(target)).is_ok()
    }

    /// Has a private copy that was cleaned away made again: from where the release was deployed,
    /// or from what is deployed now.
    pub fn restore(&self, lost: Release, deployed: Option<PathBuf>) {
        // Full: the next launch asks again.
        let _ = self.wake.try_send(Wake::Restore(Box::new(lost), deployed));
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
    desired: DesiredFile,
    files: Box<dyn Reread>,
    found: UnboundedSender<Found>,
    folder: DropFolder,
    settling: Settling,
    patience: Patience,
    events: Events,
    detected: Option<(PathBuf, SystemTime)>,
    accepted: Option<Accepted>,
    problem: Option<Problem>,
}

impl Watch {
    fn new(
        settings: WatchSettings,
        store: Store,
        desired: DesiredFile,
        files: Box<dyn Reread>,
        found: UnboundedSender<Found>,
        wake: Weak<SyncSender<Wake>>,
    ) -> Self {
        let changed = move || {
            // Full: a look is due anyway.
            let _ = wake.upgrade().map(|wake| wake.try_send(Wake::Changed));
        };
        Self {
            events: match settings.events {
                true => Events::new(changed),
                false => Events::none(),
            },
            patience: Patience::default(),
            settling: Settling::new(settings.settle),
            settings,
            store,
            desired,
            files,
            found,
            folder: DropFolder::default(),
            detected: None,
            accepted: None,
            problem: None,
        }
    }

    fn run(&mut self, woken: &Receiver<Wake>) {
        loop {
            // What is launched from now on shall be launched so.
            let again = match self.look_at_files() {
                Some(soon) => soon,
                None => {
                    self.look_at_desired();
                    self.look()
                }
            };
            let calm = Instant::now() + CALM;
            let mut wake = woken.recv_timeout(again);
            loop {
                match wake {
                    Ok(Wake::Prune(needed)) => self.store.prune(&needed),
                    Ok(Wake::Fetch(target)) => self.fetch(target),
                    Ok(Wake::Restore(lost, deployed)) => self.restore(&lost, deployed),
                    Ok(Wake::Changed) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                // One look answers all events that are there or come soon.
                wake = woken.recv_timeout(calm.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn fetch(&mut self, target: Target) {
        let release = self.store.accept(&target);
        let release = release.map_err(|error| error.to_string());
        let source = target.path;
        let _ = self.found.send(Found::Fetched { release, source });
    }

    fn restore(&mut self, lost: &Release, deployed: Option<PathBuf>) {
        let present = self.accepted.as_ref();
        let present = present.filter(|accepted| accepted.digest == lost.digest);
        let present = present.map(|accepted| accepted.target.path.clone());
        let mut places: Vec<_> = present.into_iter().chain(deployed).collect();
        places.dedup();
        for place in places {
            match self.store.restore(lost, place) {
                Ok(release) => {
                    let _ = self.found.send(Found::Restored(release));
                    return;
                }
                Err(error) => {
                    tracing::warn!(release = %lost.id, %error, "its copy cannot be made again");
                }
            }
        }
    }

    /// Says when to look again, if they are being changed at the moment.
    fn look_at_files(&mut self) -> Option<Duration> {
        let found = match self.files.look() {
            News::None => return None,
            News::Soon(wait) => return Some(wait),
            News::Settings(settings) => Found::Settings(settings),
            News::Problem(problem) => Found::SettingsProblem(problem),
        };
        let _ = self.found.send(found);
        None
    }

    fn look_at_desired(&mut self) {
        while let Some(change) = self.desired.poll() {
            let found = match change {
                DesiredChange::Content { desired, at_start } => {
                    Found::Desired { desired, at_start }
                }
                DesiredChange::Problem(problem) => Found::DesiredProblem(problem),
            };
            // The supervisor is gone at shutdown only.
            let _ = self.found.send(found);
        }
    }

    /// Looks once; says when to look again.
    fn look(&mut self) -> Duration {
        let poll = self.settings.poll;
        let target = self.settings.source.target(&mut self.folder);
        let watched = self.settings.source.watched(target.as_ref().ok());
        let files = self.files.folders();
        let watched = watched.into_iter().chain(self.desired.folder());
        let mut watched: Vec<&Path> = watched.chain(files.iter().map(PathBuf::as_path)).collect();
        watched.sort_unstable();
        watched.dedup();
        self.events.watch(&watched);
        let target = match target {
            Ok(target) => target,
            Err(reason) => {
                self.report(Some(Problem {
                    reason: reason.to_string(),
                    refused: None,
                }));
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
            .is_some_and(|last| last.target == target && last.fingerprint == fingerprint)
        {
            self.report(None);
            return poll;
        }
        let (now, clock) = (Instant::now(), SystemTime::now());
        if let Err(not_yet) = self.patience.check(&target, &fingerprint, now) {
            let NotYet { wait, problem } = not_yet;
            if let Some(problem) = problem.cloned() {
                self.report(Some(problem));
            }
            return wait.min(poll);
        }
        let detected = match &self.detected {
            Some((path, detected)) if *path == target.path => *detected,
            _ => clock,
        };
        self.detected = Some((target.path.clone(), detected));
        if target.digest.is_none() {
            let age = clock.duration_since(fingerprint.changed).ok();
            let wait = self.settling.observe(&target.path, &fingerprint, now, age);
            if !wait.is_zero() {
                return wait.min(poll);
            }
        }
        match self.store.accept(&target) {
            Ok(release) => {
                self.patience.accepted();
                let source = target.path.clone();
                self.accepted = Some(Accepted {
                    target,
                    fingerprint,
                    digest: release.digest,
                });
                self.detected = None;
                self.report(None);
                // The supervisor is gone at shutdown only.
                let _ = self.found.send(Found::Release {
                    release,
                    source,
                    detected,
                    copied: SystemTime::now(),
                });
                poll
            }
            Err(error) => {
                let now = Instant::now();
                let NotYet { wait, problem } =
                    self.patience.failed(target, fingerprint, &error, now);
                if let Some(problem) = problem.cloned() {
                    self.report(Some(problem));
                }
                wait.min(poll)
            }
        }
    }

    fn report(&mut self, problem: Option<Problem>) {
        if self.problem != problem {
            self.problem.clone_from(&problem);
            let _ = self.found.send(Found::Problem(problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc::error::TryRecvError;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::reread::Never;
    use super::*;
    use crate::control_plane::artifact::{Copying, Limits, StoreSettings, Workdir};

    /// That look only when they are told to.
    fn settings(source: Source) -> WatchSettings {
        WatchSettings {
            source,
            poll: Duration::from_secs(3600),
            events: false,
            settle: Settle {
                file: Duration::ZERO,
                folder: Duration::ZERO,
            },
        }
    }

    fn store(folder: &Path) -> Store {
        let store = StoreSettings {
            cache: folder.join("cache"),
            state: folder.join("state"),
            workdir: Workdir::Auto,
            keep: 3,
            copying: Copying::Tree,
            limits: Limits {
                bytes: 1 << 30,
                entries: 1000,
                ratio: 200,
                outside_links: false,
            },
            command: Default::default(),
        };
        Store::open(store).expect("a store")
    }

    /// A watch without any events.
    fn watch(folder: &Path, source: Source) -> (Watch, UnboundedReceiver<Found>) {
        let (found, finds) = unbounded_channel();
        let (settings, store) = (settings(source), store(folder));
        let desired = DesiredFile::new(folder);
        (
            Watch::new(
                settings,
                store,
                desired,
                Box::new(Never),
                found,
                Weak::new(),
            ),
            finds,
        )
    }

    /// What this thread has read from files until now.
    #[cfg(target_os = "linux")]
    fn read_until_now() -> u64 {
        let io = fs::read_to_string("/proc/thread-self/io").expect("its counters");
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        read.and_then(|read| read.parse().ok()).expect("a number")
    }

    #[test]
    fn it_has_ended_when_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Source::Folder(folder.path().join("releases"));
        let settings = WatchSettings {
            events: true,
            ..settings(source)
        };
        let (found, mut finds) = unbounded_channel();
        let (store, desired) = (store(folder.path()), DesiredFile::new(folder.path()));
        let watcher = Watcher::start(settings, store, desired, Box::new(Never), found);
        let watcher = watcher.expect("a thread");
        finds.blocking_recv().expect("that it looks");
        drop(watcher);
        let end = std::iter::from_fn(|| Some(finds.try_recv())).find_map(Result::err);
        assert_eq!(end, Some(TryRecvError::Disconnected));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn looking_again_at_what_has_not_changed_reads_nothing_of_it() {
        const CONTENT: usize = 4 << 20;
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        fs::create_dir_all(site.join("page")).unwrap();
        let accepted = site.join("page/large");
        fs::write(&accepted, vec![b'x'; CONTENT]).unwrap();
        let source = Source::Folder(site.clone());
        let (mut watch, mut found) = watch(folder.path(), source);
        let before = read_until_now();
        watch.look();
        assert!(matches!(found.try_recv(), Ok(Found::Release { .. })));
        assert!(read_until_now() - before >= 2 * CONTENT as u64, "it counts");

        let before = read_until_now();
        for _ in 0..100 {
            watch.look();
        }
        let read = read_until_now() - before;
        assert!(read < 64 << 10, "{read} bytes for nothing");

        // Nor of what has been refused.
        fs::write(site.join("evil.zip"), vec![b'x'; CONTENT]).unwrap();
        fs::write(site.join("evil.zip.sha256"), "ab".repeat(32)).unwrap();
        let before = read_until_now();
        for _ in 0..100 {
            watch.look();
        }
        let read = read_until_now() - before;
        assert!(
            read < 3 * CONTENT as u64,
            "{read} bytes for the same refusal"
        );
    }

    #[test]
    fn every_change_is_found_by_looking_alone() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("site/app");
        let (mut watch, mut found) = watch(folder.path(), Source::Artifact(app.clone()));
        watch.look();
        assert!(matches!(found.try_recv(), Ok(Found::Problem(Some(_)))));
        fs::create_dir(app.parent().unwrap()).unwrap();
        for content in ["1", "12", "123"] {
            fs::write(&app, content).unwrap();
            let mut released = None;
            for _ in 0..10 {
                watch.look();
                while let Ok(news) = found.try_recv() {
                    if let Found::Release { release, .. } = news {
                        released = Some(release);
                    }
                }
            }
            let copy = released.expect("a release").artifact;
            assert_eq!(fs::read_to_string(copy).unwrap(), content);
            watch.look();
            assert!(found.try_recv().is_err(), "nothing twice");
        }
    }
}
