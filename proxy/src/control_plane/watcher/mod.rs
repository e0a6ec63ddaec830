//! Detects new artifacts, commands and configurations in files.
//!
//! Looking is the authority, and change events tell when to look. On local disks of Linux none is
//! lost unsaid, and a sidecar at rest looks at nothing. Elsewhere some are lost, on network shares and
//! when their buffer overflows (notify-rs/notify#963): there files are polled. Events never tell that
//! a file is complete. All reading, hashing and copying happens on a thread of low priority, which does
//! not compete with the workers.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::artifact::{
    ArtifactProblem, RetryPolicy, SettlePeriods, SettleProgress, SettleTracker, Store,
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

mod copies;
mod data_left;
mod incomplete;
mod reload;
mod scan;
mod turn;
mod walks;

pub use reload::Reloader;

use incomplete::{OlderArtifacts, drop_folder};
use turn::Turn;
use walks::WalkSchedule;

/// Minimum time from one scan to the next, since a folder may be written to all the time.
const COALESCE_PERIOD: Duration = Duration::from_millis(50);
/// Time from one scan to the next where every change is reported. A file system that is mounted over
/// a folder is not.
const REPORTED_POLL: Duration = Duration::from_secs(60);
/// Minimum time from one scan to the next without an event, in multiples of the scan's time.
const PAUSE: u32 = 20;

/// Settings of a [`Watcher`].
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Options that name what to run.
    pub source: Source,
    /// Time from one scan to the next without an event, where changes happen that are not reported.
    pub poll: Duration,
    /// True if change events of the system cause a scan.
    pub events: bool,
    /// True if the artifact's folder is watched as a whole. The app must not run in it: each file that
    /// it opens would be reported.
    pub tree_events: bool,
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
        desired: Box<Desired>,
        /// True if it is older than the sidecar.
        at_start: bool,
    },
    /// The reason why `desired.json` cannot be read, once for each new reason; `None` when that is
    /// over.
    DesiredProblem(Option<String>),
    /// True when a staged roll-out begins in which it is not this sidecar's turn; false when that is
    /// over.
    AwaitsTurn(bool),
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
    serving: watch::Sender<Option<PathBuf>>,
    _thread: JoinOnDrop,
}

#[derive(Debug)]
enum WatchRequest {
    Changed,
    Prune(Vec<PathBuf>),
    Fetch(Target),
    Restore(Box<Release>, Option<PathBuf>),
    LookForData(ReleaseId, PathBuf),
    FallBack(Option<PathBuf>),
    LookAgain,
    /// Read the configuration and look for a new artifact, then drop the sender.
    Reload(oneshot::Sender<()>),
    End,
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
        sidecar: Arc<str>,
        settings: WatchSettings,
        store: Store,
        desired: DesiredFile,
        config: Box<dyn ConfigSource>,
        found: UnboundedSender<WatchEvent>,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(16);
        let wake = Arc::new(wake);
        let events = Arc::downgrade(&wake);
        let (serving, served) = watch::channel(None);
        let thread = JoinOnDrop::spawn("watcher", move || {
            thread::lower_priority();
            let turn = Turn::new(sidecar);
            let mut thread =
                WatchThread::new(turn, settings, store, desired, config, found, events);
            thread.serving = served;
            thread.run(&woken);
        })?;
        Ok(Self {
            wake,
            serving,
            _thread: thread,
        })
    }

    /// Names the path at which the release was deployed that serves, if it is known.
    pub fn set_serving(&self, deployed: Option<PathBuf>) {
        let replace = |serving: &mut Option<PathBuf>| {
            let is_other = *serving != deployed;
            *serving = deployed;
            is_other
        };
        if self.serving.send_if_modified(replace) {
            // A full channel is no loss: a scan follows anyway.
            let _ = self.wake.try_send(WatchRequest::Changed);
        }
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

    /// Copies the next older artifact of the drop folder, as the newest one cannot serve: one that is
    /// newer than the artifact at the path `serving`; without that path any one, if no release has
    /// served on this machine. [`WatchEvent::Older`] follows if there is one.
    pub fn fall_back(&self, serving: Option<PathBuf>) {
        // A full channel is no loss: the next failure asks again.
        let _ = self.wake.try_send(WatchRequest::FallBack(serving));
    }

    /// Copies the deployed artifact again, even if it seems unchanged. Returns `false` when the thread
    /// is too busy; else [`WatchEvent::Release`] follows once there is one that can be accepted.
    pub fn look_again(&self) -> bool {
        self.wake.try_send(WatchRequest::LookAgain).is_ok()
    }

    /// Returns a handle that outlives no watcher.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(Arc::downgrade(&self.wake))
    }

    /// Removes copies, except for those of the artifacts `needed`.
    pub fn prune(&self, needed: Vec<PathBuf>) {
        // A full channel is no loss: the next call has the same names, or more.
        let _ = self.wake.try_send(WatchRequest::Prune(needed));
    }
}

/// The state of the thread.
struct WatchThread {
    turn: Turn,
    settings: WatchSettings,
    store: Store,
    desired: DesiredFile,
    config: Box<dyn ConfigSource>,
    found: UnboundedSender<WatchEvent>,
    folder: DropFolder,
    /// Path at which the release was deployed that serves, if it is known.
    serving: watch::Receiver<Option<PathBuf>>,
    settling: SettleTracker,
    retry_policy: RetryPolicy,
    events: ChangeEvents,
    /// The artifact for which files are watched, if its folder is watched as a whole, and the time at
    /// which they were listed.
    watched: Option<(Option<PathBuf>, bool, Instant)>,
    walks: WalkSchedule,
    /// Number of the renaming that was seen last, and what was renamed.
    renamed: Option<(u64, Fingerprint)>,
    detected: Option<(PathBuf, SystemTime)>,
    accepted: Option<Accepted>,
    /// True if it is accepted anew at the next look, even if it seems unchanged.
    looks_again: bool,
    /// True if the last walk found something else than what is accepted: it is settling, or refused.
    has_changed: bool,
    problem: Option<ArtifactProblem>,
    older: OlderArtifacts,
    /// The settling artifact that is reported.
    settling_shown: Option<SettleProgress>,
    /// The settling artifact that was logged last.
    settling_logged: Option<PathBuf>,
    /// Threads that remove copies.
    removals: Vec<JoinOnDrop>,
}

impl WatchThread {
    fn new(
        turn: Turn,
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
            turn,
            events: if settings.events {
                ChangeEvents::new(changed)
            } else {
                ChangeEvents::none()
            },
            retry_policy: RetryPolicy::default(),
            settling: SettleTracker::new(settings.settle),
            settling_shown: None,
            settling_logged: None,
            removals: Vec::new(),
            folder: drop_folder(&store),
            serving: watch::channel(None).1,
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
            watched: None,
            walks: WalkSchedule::default(),
            renamed: None,
            detected: None,
            accepted: None,
            looks_again: false,
            has_changed: false,
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
                    self.look()
                }
            };
            // The app starts meanwhile.
            self.store.finish_copies();
            let coalesced_at = Instant::now() + COALESCE_PERIOD;
            let mut wake = woken.recv_timeout(again);
            loop {
                match wake {
                    Ok(WatchRequest::Prune(needed)) => self.prune(&needed),
                    Ok(WatchRequest::Fetch(target)) => self.fetch(target),
                    Ok(WatchRequest::Restore(lost, deployed)) => self.restore(&lost, deployed),
                    Ok(WatchRequest::LookForData(release, artifact)) => {
                        self.look_for_data(release, &artifact);
                    }
                    Ok(WatchRequest::FallBack(serving)) => {
                        self.fall_back(serving.as_deref());
                    }
                    Ok(WatchRequest::LookAgain) => {
                        self.looks_again = true;
                        self.walks.record_change();
                    }
                    Ok(WatchRequest::Reload(done)) => {
                        self.walks.record_change();
                        reloads.push(done);
                    }
                    Ok(WatchRequest::Changed) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Ok(WatchRequest::End) | Err(RecvTimeoutError::Disconnected) => return,
                }
                // One scan serves all events that come soon after each other.
                wake = woken.recv_timeout(coalesced_at.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Looks at all files but the configuration. Returns the time until the next look.
    fn look(&mut self) -> Duration {
        let news = self.events.take_news();
        self.poll_desired();
        let begun = Instant::now();
        self.folder.set_serving(self.serving.borrow().clone());
        let found = self.settings.source.target(&mut self.folder);
        let found = found.and_then(|target| self.take_turn(target));
        let is_watched_anew = self.watch(&found, news);
        let poll = self.settings.poll;
        // What a pointer names need not exist, nor the folder that it is in.
        let pause = if is_watched_anew {
            // What happened before the watch began is not reported.
            Duration::ZERO
        } else if found.is_err() || !self.events.are_reliable() {
            poll.max(begun.elapsed() * PAUSE)
        } else if news.is_any {
            poll
        } else {
            poll.max(REPORTED_POLL)
        };
        let target = found.as_ref().ok().cloned();
        let wait = self.scan(found, news).min(pause);
        if target.is_some_and(|target| self.is_tree_unwatched(&target)) {
            // Its size is known now.
            return Duration::ZERO;
        }
        wait
    }

    /// Removes copies on a thread of their own: of a folder with 20,000 files that can take a minute,
    /// for which the next artifact does not wait.
    fn prune(&mut self, needed: &[PathBuf]) {
        let unneeded = self.store.prune(needed);
        self.removals.retain(|removal| !removal.has_ended());
        if !unneeded.is_empty() {
            let removal = JoinOnDrop::spawn("cleaner", move || {
                thread::lower_priority();
                drop(unneeded);
            });
            self.removals.extend(removal);
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
                    self.turn.follow(desired.rollout.as_ref());
                    WatchEvent::Desired { desired, at_start }
                }
                DesiredChange::Problem(problem) => WatchEvent::DesiredProblem(problem),
            };
            // The supervisor ends only at shutdown.
            let _ = self.found.send(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

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
            tree_events: false,
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
            assets: None,
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
                Turn::new("a".into()),
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
        let watcher = Watcher::start(
            "a".into(),
            settings,
            store,
            desired,
            Box::new(FixedConfig),
            found,
        );
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
        assert!(matches!(found.try_recv(), Ok(WatchEvent::Release { .. })));
        assert!(read_until_now() - before >= CONTENT as u64, "it counts");

        let before = read_until_now();
        for _ in 0..100 {
            watch.look();
        }
        let read = read_until_now() - before;
        assert!(read < 64 << 10, "{read} bytes for nothing");

        // The same holds for content that was refused.
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

    #[cfg(target_os = "linux")]
    #[test]
    fn an_artifact_is_read_while_it_settles_and_not_again() {
        use std::io::Read as _;

        const CONTENT: u64 = 4 << 20;
        const PERIOD: Duration = Duration::from_secs(4);
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("site/app");
        fs::create_dir(app.parent().unwrap()).unwrap();
        let (mut watch, mut found) = watch(folder.path(), Source::Artifact(app.clone()));
        // Returns the release that a look has found.
        let mut look = |watch: &mut WatchThread| {
            let wait = watch.look();
            let news = std::iter::from_fn(|| found.try_recv().ok());
            let releases = news.filter_map(|it| {
                let WatchEvent::Release { release, .. } = it else {
                    return None;
                };
                Some(release)
            });
            (releases.last(), wait.min(PERIOD / 8))
        };
        // The age counts for the first artifact only.
        fs::write(&app, "first").unwrap();
        while look(&mut watch).0.is_none() {}
        watch.settling = SettleTracker::new(SettlePeriods {
            file: PERIOD,
            folder: PERIOD,
        });
        let mut read = read_until_now();
        // The second time it is changed after it was read.
        for _ in 0..2 {
            let mut file = fs::File::options().append(true).open(&app).unwrap();
            std::io::copy(&mut std::io::repeat(b'x').take(CONTENT / 2), &mut file).unwrap();
            drop(file);
            read = read_until_now();
            look(&mut watch);
            assert!(
                read_until_now() - read < CONTENT / 4,
                "it may go on to grow"
            );
            while read_until_now() - read < CONTENT / 2 {
                let (release, wait) = look(&mut watch);
                assert!(release.is_none(), "it has not settled");
                std::thread::sleep(wait);
            }
            read = read_until_now();
        }
        let release = loop {
            let (release, wait) = look(&mut watch);
            if let Some(release) = release {
                break release;
            }
            std::thread::sleep(wait);
        };
        let again = read_until_now() - read;
        assert!(again < CONTENT / 4, "{again} bytes are read again");
        let copied = fs::metadata(release.artifact).unwrap().len();
        assert_eq!(copied, "first".len() as u64 + CONTENT);
    }

    #[test]
    fn every_change_is_found_by_looking_alone() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("site/app");
        let (mut watch, mut found) = watch(folder.path(), Source::Artifact(app.clone()));
        watch.look();
        assert!(matches!(found.try_recv(), Ok(WatchEvent::Problem(Some(_)))));
        fs::create_dir(app.parent().unwrap()).unwrap();
        for content in ["1", "12", "123"] {
            fs::write(&app, content).unwrap();
            let mut released = None;
            for _ in 0..10 {
                watch.look();
                while let Ok(news) = found.try_recv() {
                    if let WatchEvent::Release { release, .. } = news {
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
