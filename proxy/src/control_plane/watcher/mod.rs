//! Detects new artifacts, commands and configurations in files.
//!
//! Polling is the authority, and change events only make it quick. Events get lost on network
//! shares and when their buffer overflows (notify-rs/notify#963), and they never tell that a file
//! is complete. All reading, hashing and copying happens on a thread of low priority, which does
//! not compete with the workers.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::artifact::{
    ArtifactProblem, Postponed, RETRY_DELAY, RetryPolicy, SettlePeriods, SettleProgress,
    SettleTracker, Store, can_see_writers,
};
use super::change_events::ChangeEvents;
use super::config_source::{ConfigReload, ConfigSource};
use super::desired_file::{DesiredChange, DesiredFile};
use super::settings::SupervisorSettings;
use crate::deployment::desired::Desired;
use crate::deployment::status::{DataLeft, Settling};
use crate::deployment::{DropFolder, Fingerprint, Source, Target};
use crate::os::thread::{self, JoinOnDrop};
use crate::release::{Digest, Release, ReleaseId};

mod data_left;
mod incomplete;

use incomplete::{OlderArtifacts, drop_folder};

/// Minimum time from one scan to the next, since a folder may be written to all the time.
const COALESCE_PERIOD: Duration = Duration::from_millis(50);

/// Settings of a [`Watcher`].
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Options that name what to run.
    pub source: Source,
    /// Time from one scan to the next without an event.
    pub poll: Duration,
    /// True if change events of the system cause a scan.
    pub events: bool,
    /// Times without a change after which an artifact without a digest is complete.
    pub settle: SettlePeriods,
}

/// An event for the supervisor.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A complete artifact has been copied.
    Release {
        /// The release to launch.
        release: Release,
        /// Path at which it was deployed.
        source: PathBuf,
        /// Time at which it was first seen.
        detected: SystemTime,
        /// Time at which its private copy was complete.
        copied: SystemTime,
    },
    /// An older artifact has been copied, since the newest cannot serve.
    Older {
        /// The release to launch.
        release: Release,
        /// Path at which it was deployed.
        source: PathBuf,
        /// Time at which it was looked at.
        detected: SystemTime,
        /// Time at which its private copy was complete.
        copied: SystemTime,
    },
    /// The result of [`Watcher::fetch`].
    Fetched {
        /// The release to launch, or the reason why there is none.
        release: Result<Release, String>,
        /// Path at which it was deployed.
        source: PathBuf,
    },
    /// The result of [`Watcher::restore`].
    Restored(Release),
    /// The data that a superseded release has left in its private copy; `None` when there is none.
    DataLeft(Option<DataLeft>),
    /// The artifact that may still change; `None` when there is none.
    Settling(Option<Settling>),
    /// The reason why there is no artifact, once for each new reason; `None` when that is over.
    Problem(Option<ArtifactProblem>),
    /// The content of `desired.json`.
    Desired {
        /// The content.
        desired: Desired,
        /// True if it is older than the sidecar.
        at_start: bool,
    },
    /// The reason why `desired.json` cannot be read, once for each new reason; `None` when that is
    /// over.
    DesiredProblem(Option<String>),
    /// New settings.
    Settings(Box<SupervisorSettings>),
    /// The reason why changed configuration files have no effect.
    SettingsProblem(String),
}

/// A handle to the watching thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    /// The only strong reference: change events alone do not keep the thread running.
    wake: Arc<SyncSender<WatchRequest>>,
    _thread: JoinOnDrop,
}

/// A handle that makes the watching thread read everything at once.
#[derive(Clone, Debug)]
pub struct Reloader(Weak<SyncSender<WatchRequest>>);

#[derive(Debug)]
enum WatchRequest {
    Changed,
    Prune(Vec<PathBuf>),
    Fetch(Target),
    Restore(Box<Release>, Option<PathBuf>),
    LookForData(ReleaseId, PathBuf),
    FallBack,
    /// Read the configuration and look for a new artifact, then drop the sender.
    Reload(oneshot::Sender<()>),
}

/// The artifact that was accepted last.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    target: Target,
    fingerprint: Fingerprint,
    digest: Digest,
}

// === impl Watcher ===

impl Watcher {
    /// Starts the thread, which sends its events to `found`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        settings: WatchSettings,
        store: Store,
        desired: DesiredFile,
        config: Box<dyn ConfigSource>,
        found: UnboundedSender<WatchEvent>,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(16);
        let wake = Arc::new(wake);
        let events = Arc::downgrade(&wake);
        let thread = JoinOnDrop::spawn("watcher", move || {
            thread::lower_priority();
            WatchThread::new(settings, store, desired, config, found, events).run(&woken);
        })?;
        Ok(Self {
            wake,
            _thread: thread,
        })
    }

    /// Copies another artifact than the deployed one. Returns `false` when the thread is too busy;
    /// else [`WatchEvent::Fetched`] follows.
    pub fn fetch(&self, target: Target) -> bool {
        self.wake.try_send(WatchRequest::Fetch(target)).is_ok()
    }

    /// Makes a lost private copy again, from the path at which the release was deployed, or from
    /// the artifact that is deployed now.
    pub fn restore(&self, lost: Release, deployed: Option<PathBuf>) {
        // A full channel is no loss: the next launch asks again.
        let _ = self
            .wake
            .try_send(WatchRequest::Restore(Box::new(lost), deployed));
    }

    /// Copies the next older artifact of the drop folder, if no release has served on this machine:
    /// the newest one cannot. [`WatchEvent::Older`] follows if there is one.
    pub fn fall_back(&self) {
        // A full channel is no loss: the next failure asks again.
        let _ = self.wake.try_send(WatchRequest::FallBack);
    }

    /// Returns a handle that outlives no watcher.
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::downgrade(&self.wake))
    }

    /// Removes copies, except for those of the artifacts `needed`.
    pub fn prune(&self, needed: Vec<PathBuf>) {
        // A full channel is no loss: the next call has the same names, or more.
        let _ = self.wake.try_send(WatchRequest::Prune(needed));
    }
}

// === impl Reloader ===

impl Reloader {
    /// Lets the thread read the configuration and look for a new artifact. Returns once the
    /// configuration has been read, or when the thread is too busy or has ended.
    pub async fn reload(&self) {
        let (done, is_done) = oneshot::channel();
        if let Some(wake) = self.0.upgrade() {
            // A refused request drops its sender.
            let _ = wake.try_send(WatchRequest::Reload(done));
        }
        let _ = is_done.await;
    }
}

/// The state of the thread.
struct WatchThread {
    settings: WatchSettings,
    store: Store,
    desired: DesiredFile,
    config: Box<dyn ConfigSource>,
    found: UnboundedSender<WatchEvent>,
    folder: DropFolder,
    settling: SettleTracker,
    retry_policy: RetryPolicy,
    events: ChangeEvents,
    detected: Option<(PathBuf, SystemTime)>,
    accepted: Option<Accepted>,
    problem: Option<ArtifactProblem>,
    older: OlderArtifacts,
    /// The settling artifact that is reported.
    settling_shown: Option<SettleProgress>,
    /// The settling artifact that was logged last.
    settling_logged: Option<PathBuf>,
}

impl WatchThread {
    fn new(
        settings: WatchSettings,
        store: Store,
        desired: DesiredFile,
        config: Box<dyn ConfigSource>,
        found: UnboundedSender<WatchEvent>,
        wake: Weak<SyncSender<WatchRequest>>,
    ) -> Self {
        let changed = move || {
            // A full channel is no loss: a scan follows anyway.
            let _ = wake
                .upgrade()
                .map(|wake| wake.try_send(WatchRequest::Changed));
        };
        Self {
            events: if settings.events {
                ChangeEvents::new(changed)
            } else {
                ChangeEvents::none()
            },
            retry_policy: RetryPolicy::default(),
            settling: SettleTracker::new(settings.settle),
            settling_shown: None,
            settling_logged: None,
            folder: drop_folder(&store),
            older: OlderArtifacts {
                are_needed: !store.has_copies(),
                has_replaced_newest: false,
                tried: Vec::new(),
            },
            settings,
            store,
            desired,
            config,
            found,
            detected: None,
            accepted: None,
            problem: None,
        }
    }

    fn run(&mut self, woken: &Receiver<WatchRequest>) {
        let mut reloads = Vec::new();
        loop {
            // New settings apply to the next launch, so they are read first.
            let again = match self.poll_config() {
                Some(soon) => soon,
                None => {
                    reloads.clear();
                    self.poll_desired();
                    self.scan()
                }
            };
            // The app starts meanwhile.
            self.store.sync_copies();
            let coalesced_at = Instant::now() + COALESCE_PERIOD;
            let mut wake = woken.recv_timeout(again);
            loop {
                match wake {
                    Ok(WatchRequest::Prune(needed)) => self.store.prune(&needed),
                    Ok(WatchRequest::Fetch(target)) => self.fetch(target),
                    Ok(WatchRequest::Restore(lost, deployed)) => self.restore(&lost, deployed),
                    Ok(WatchRequest::LookForData(release, artifact)) => {
                        self.look_for_data(release, &artifact);
                    }
                    Ok(WatchRequest::FallBack) => {
                        self.fall_back();
                    }
                    Ok(WatchRequest::Reload(done)) => reloads.push(done),
                    Ok(WatchRequest::Changed) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                // One scan serves all events that come soon after each other.
                wake = woken.recv_timeout(coalesced_at.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn fetch(&mut self, target: Target) {
        let release = self.store.accept(&target);
        let release = release.map_err(|error| error.to_string());
        let source = target.path;
        let _ = self.found.send(WatchEvent::Fetched { release, source });
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

    /// Reads the configuration. Returns a time to wait, while it is being changed.
    fn poll_config(&mut self) -> Option<Duration> {
        let found = match self.config.poll() {
            ConfigReload::Unchanged => return None,
            ConfigReload::Changing(wait) => return Some(wait),
            ConfigReload::Settings(settings) => WatchEvent::Settings(settings),
            ConfigReload::Problem(problem) => WatchEvent::SettingsProblem(problem),
        };
        let _ = self.found.send(found);
        None
    }

    fn poll_desired(&mut self) {
        while let Some(change) = self.desired.poll() {
            let found = match change {
                DesiredChange::Content { desired, at_start } => {
                    WatchEvent::Desired { desired, at_start }
                }
                DesiredChange::Problem(problem) => WatchEvent::DesiredProblem(problem),
            };
            // The supervisor ends only at shutdown.
            let _ = self.found.send(found);
        }
    }

    /// Looks for a new artifact. Returns the time until the next scan.
    fn scan(&mut self) -> Duration {
        let poll = self.settings.poll;
        let target = self.settings.source.target(&mut self.folder);
        let watched = self.settings.source.watched(target.as_ref().ok());
        let files = self.config.folders();
        let watched = watched.into_iter().chain(self.desired.folder());
        let mut watched: Vec<&Path> = watched.chain(files.iter().map(PathBuf::as_path)).collect();
        watched.sort_unstable();
        watched.dedup();
        self.events.watch(&watched);
        let target = match target {
            Ok(target) => target,
            Err(reason) => {
                self.report(Some(ArtifactProblem {
                    reason: reason.to_string(),
                    refused: None,
                }));
                return poll;
            }
        };
        let fingerprint = match Fingerprint::of(&target.path) {
            Ok(fingerprint) => fingerprint,
            Err(error) => {
                // What has been removed since is no problem, or the next scan's.
                if error.kind() != std::io::ErrorKind::NotFound {
                    self.report(Some(ArtifactProblem {
                        reason: error.to_string(),
                        refused: None,
                    }));
                }
                return RETRY_DELAY.min(poll);
            }
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
        if let Err(not_yet) = self.retry_policy.check(&target, &fingerprint, now) {
            let Postponed { wait, problem } = not_yet;
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
            let see = || can_see_writers(&target.path);
            let wait = (self.settling).observe(&target.path, &fingerprint, now, age, see);
            if !wait.is_zero() {
                self.show_settling(self.settling.progress());
                return wait.min(poll);
            }
        }
        self.show_settling(None);
        match self.store.accept(&target) {
            Ok(release) => {
                self.retry_policy.record_success();
                self.settling_logged = None;
                let source = target.path.clone();
                self.accepted = Some(Accepted {
                    target,
                    fingerprint,
                    digest: release.digest,
                });
                self.detected = None;
                self.report(None);
                // The supervisor ends only at shutdown.
                let _ = self.found.send(WatchEvent::Release {
                    release,
                    source,
                    detected,
                    copied: SystemTime::now(),
                });
                poll
            }
            Err(error) => {
                let now = Instant::now();
                let Postponed { wait, problem } =
                    self.retry_policy
                        .record_failure(target, fingerprint, &error, now);
                if let Some(problem) = problem.cloned() {
                    self.report(Some(problem));
                }
                wait.min(poll)
            }
        }
    }

    fn report(&mut self, problem: Option<ArtifactProblem>) {
        self.show_settling(None);
        let is_problem = problem.is_some();
        if self.problem != problem {
            self.problem.clone_from(&problem);
            let _ = self.found.send(WatchEvent::Problem(problem));
        }
        if is_problem && self.accepted.is_none() && !self.older.has_replaced_newest {
            self.older.has_replaced_newest = self.fall_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc::error::TryRecvError;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::control_plane::artifact::{Copying, Limits, StoreSettings, Workdir};
    use crate::control_plane::config_source::FixedConfig;

    /// Settings under which only the test starts scans.
    fn settings(source: Source) -> WatchSettings {
        WatchSettings {
            source,
            poll: Duration::from_secs(3600),
            events: false,
            settle: SettlePeriods {
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

    /// Creates a thread's state without change events.
    fn watch(folder: &Path, source: Source) -> (WatchThread, UnboundedReceiver<WatchEvent>) {
        let (found, finds) = unbounded_channel();
        let (settings, store) = (settings(source), store(folder));
        let desired = DesiredFile::new(folder);
        (
            WatchThread::new(
                settings,
                store,
                desired,
                Box::new(FixedConfig),
                found,
                Weak::new(),
            ),
            finds,
        )
    }

    /// Returns the number of bytes that this thread has read from files.
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
        let watcher = Watcher::start(settings, store, desired, Box::new(FixedConfig), found);
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
        watch.scan();
        assert!(matches!(found.try_recv(), Ok(WatchEvent::Release { .. })));
        assert!(read_until_now() - before >= 2 * CONTENT as u64, "it counts");

        let before = read_until_now();
        for _ in 0..100 {
            watch.scan();
        }
        let read = read_until_now() - before;
        assert!(read < 64 << 10, "{read} bytes for nothing");

        // The same holds for content that was refused.
        fs::write(site.join("evil.zip"), vec![b'x'; CONTENT]).unwrap();
        fs::write(site.join("evil.zip.sha256"), "ab".repeat(32)).unwrap();
        let before = read_until_now();
        for _ in 0..100 {
            watch.scan();
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
        watch.scan();
        assert!(matches!(found.try_recv(), Ok(WatchEvent::Problem(Some(_)))));
        fs::create_dir(app.parent().unwrap()).unwrap();
        for content in ["1", "12", "123"] {
            fs::write(&app, content).unwrap();
            let mut released = None;
            for _ in 0..10 {
                watch.scan();
                while let Ok(news) = found.try_recv() {
                    if let WatchEvent::Release { release, .. } = news {
                        released = Some(release);
                    }
                }
            }
            let copy = released.expect("a release").artifact;
            assert_eq!(fs::read_to_string(copy).unwrap(), content);
            watch.scan();
            assert!(found.try_recv().is_err(), "nothing twice");
        }
    }
}
