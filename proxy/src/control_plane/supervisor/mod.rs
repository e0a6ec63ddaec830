//! The only task that launches, promotes, drains and stops instances.
//!
//! It reports events to the [`Lifecycle`] and performs the actions that follow. What takes time
//! (a start, a drain, a stop, a back-off) runs in tasks beside it, which report with a message.
//!
//! ```text
//!  watcher ──────▶ watch_events ────┐                    ┌──▶ launch, handover ──▶ instances
//!  desired.json ─▶ commands ────────┼──▶ Lifecycle::on ──┼──▶ trial
//!  instances ────▶ instance_events ─┘    (decides)       └──▶ journal ──▶ status, memory, log
//! ```

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::canary::Canary;
use self::instances::Instances;
use self::journal::{Cause, StatusJournal};
use self::releases::{Accepted, Releases};
use self::self_upgrade::SelfUpgrade;
pub use self::self_upgrade::{UpgradeEnd, UpgradeOrder, UpgradeRequester, own_program};
use self::timer::Timer;
use self::trial::Trial;
use super::instance::InstanceEvent;
use super::lifecycle::{Action, Event, Lifecycle, LifecycleRecord, Purpose};
use super::liveness::LivenessChange;
use super::memory::Memory;
use super::settings::SupervisorSettings;
use super::siblings::Siblings;
use super::step::StepFailure;
use super::watcher::{WatchEvent, Watcher};
use crate::deployment::desired::{Desired, StageCommand};
use crate::deployment::status::{Phase, Status};
use crate::process::Launch;
use crate::release::{Digest, Generation, Release, ReleaseId};
use crate::router::Router;

mod adoption;
mod before_start;
mod canary;
mod commands;
mod giving_way;
mod handover;
mod instance_events;
mod instances;
mod journal;
mod launch;
mod launch_record;
mod releases;
mod responsiveness;
mod self_upgrade;
mod sessions;
mod staging;
mod timer;
mod trial;
mod watch_events;

/// Maximum time from one status to the next while requests, changes or a trial are under way.
const BUSY_HEARTBEAT: Duration = Duration::from_secs(1);

/// A shutdown command from the application to the supervisor.
#[derive(Clone, Copy, Debug)]
pub enum ShutdownCommand {
    /// Nothing is launched any more, and everything has ended at this deadline.
    Begin(Instant),
    /// The public port is closed and its last connection has ended.
    PortClosed,
}

/// State restored from disk when a sidecar starts: its own memory, and its siblings' releases.
#[derive(Debug)]
pub struct RestoredState {
    /// Memory of this machine.
    pub memory: Memory,
    /// Releases that served before and can be launched, the latest last.
    pub good: Vec<Release>,
    /// Releases that served before, are refused and can be launched, the latest last.
    pub former: Vec<Release>,
    /// Releases of sibling sidecars; empty if there is a memory.
    pub siblings: Siblings,
}

/// The task that supervises all instances.
#[derive(Debug)]
pub struct Supervisor<L> {
    settings: SupervisorSettings,
    launcher: Rc<L>,
    router: Arc<Router>,
    watcher: Watcher,
    lifecycle: Lifecycle,
    releases: Releases,
    instances: Instances,
    trial: Option<Trial>,
    journal: StatusJournal,
    siblings: Siblings,
    /// An artifact that siblings refused: what they run is copied first.
    deferred: Option<Accepted>,
    /// A release to try again after the next look at what is deployed.
    to_retry: Option<Digest>,
    desired: Option<Desired>,
    /// The release that was active last, and its private copy.
    served: Option<(ReleaseId, PathBuf)>,
    /// The active instance for which a restart with the present variables has been requested.
    renewed: Option<Generation>,
    /// Content that is not to serve before that is requested.
    to_stage: Option<StageCommand>,
    /// End of the stage.
    stage_end: Timer,
    canary: Option<Canary>,
    retry: Timer,
    /// Pause of a release that gave way to another one.
    rest: Timer,
    pause: Timer,
    upgrade: SelfUpgrade,
    /// The newest release, as an earlier process of this sidecar has left it: its next detection is no
    /// deploy.
    known: Option<ReleaseId>,
    /// The record of the lifecycle that is kept for the next process.
    kept: LifecycleRecord,
    messages: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// End of the shutdown timeout.
    deadline: Option<Instant>,
}

/// A report of a task beside the supervisor.
#[derive(Debug)]
enum Message {
    Instance(Generation, InstanceEvent),
    /// `--before-start` has ended, here or elsewhere.
    Prepared(Generation, Purpose, Result<(), StepFailure>),
    /// There is no process, for a reason outside the release.
    LaunchFailed(Generation),
    /// There is no process, through the fault of the release.
    Gone(Generation),
    Drained(Generation, u32),
    Liveness(Generation, LivenessChange),
    Lifecycle(Event),
    NotUpgraded(UpgradeEnd),
    /// No command asks for an upgrade, but this.
    UpgradeRequested(&'static str),
}

// === impl Supervisor ===

impl<L: Launch> Supervisor<L> {
    /// Creates a supervisor without instances. It goes on from the status that `publisher` holds.
    pub fn new(
        settings: SupervisorSettings,
        launcher: L,
        router: Arc<Router>,
        watcher: Watcher,
        publisher: watch::Sender<Status>,
        restored: RestoredState,
    ) -> Self {
        let RestoredState {
            memory,
            good,
            former,
            siblings,
        } = restored;
        let ids = |releases: &[Release]| releases.iter().map(|it| it.id.clone()).collect();
        let mut lifecycle = Lifecycle::new(settings.policy(), ids(&good));
        lifecycle.remember_former(ids(&former));
        let (messages, inbox) = mpsc::unbounded_channel();
        Self {
            lifecycle,
            settings,
            launcher: Rc::new(launcher),
            router,
            watcher,
            releases: Releases::restored([former, good].concat()),
            instances: Instances::default(),
            trial: None,
            journal: StatusJournal::new(publisher, memory),
            siblings,
            deferred: None,
            to_retry: None,
            desired: None,
            served: None,
            renewed: None,
            to_stage: None,
            stage_end: Timer::default(),
            canary: None,
            retry: Timer::default(),
            rest: Timer::default(),
            pause: Timer::default(),
            upgrade: SelfUpgrade::default(),
            known: None,
            kept: LifecycleRecord::default(),
            messages,
            inbox,
            deadline: None,
        }
    }

    /// Supervises until the shutdown is over and the last instance has ended.
    ///
    /// Processes are started on the calling thread, which has to outlive them.
    pub async fn run(
        mut self,
        mut watched: mpsc::UnboundedReceiver<WatchEvent>,
        mut shutdown: mpsc::UnboundedReceiver<ShutdownCommand>,
    ) {
        let mut last_heartbeat = Instant::now();
        while !self.lifecycle.is_finished() {
            let deadline = self.deadline;
            let heartbeat = last_heartbeat + self.heartbeat();
            tokio::select! {
                Some(event) = watched.recv() => self.handle_watch_event(event),
                Some(message) = self.inbox.recv() => self.handle_message(message),
                Some(command) = shutdown.recv() => self.shut_down(command),
                () = sleep_until(deadline) => self.kill_all(),
                () = tokio::time::sleep_until(heartbeat) => {
                    last_heartbeat = Instant::now();
                    self.judge_trial();
                    self.judge_canary();
                }
            }
            self.renew();
            self.look_at_unanswered();
            self.publish();
            self.renew_record();
            self.look_at_upgrade();
        }
    }

    /// Returns the maximum time from one status to the next.
    fn heartbeat(&self) -> Duration {
        let is_at_rest = self.trial.is_none()
            && self.canary.is_none()
            && self.journal.status.paused.is_none()
            && self.journal.status.phase == Phase::Running
            && self.router.held() == 0
            && self.instances.are_at_rest();
        if is_at_rest {
            self.settings.heartbeat
        } else {
            self.settings.heartbeat.min(BUSY_HEARTBEAT)
        }
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Instance(generation, event) => self.handle_instance_event(generation, event),
            Message::Prepared(generation, purpose, result) => {
                self.prepared(generation, purpose, result);
            }
            Message::LaunchFailed(generation) => self.launch_failed(generation),
            Message::Gone(generation) => self.gone(generation),
            Message::Drained(generation, promotion) => self.drained(generation, promotion),
            Message::Liveness(generation, change) => self.handle_liveness(generation, change),
            Message::Lifecycle(event) => self.on(event),
            Message::NotUpgraded(end) => self.not_upgraded(end),
            Message::UpgradeRequested(by) => self.request_upgrade(by),
        }
    }

    fn shut_down(&mut self, command: ShutdownCommand) {
        match command {
            ShutdownCommand::Begin(deadline) => {
                self.deadline = Some(deadline);
                self.journal.status.phase = Phase::Stopping;
                self.on(Event::ShutdownRequested);
            }
            ShutdownCommand::PortClosed => self.on(Event::PortClosed),
        }
    }

    /// Lets the lifecycle decide what follows from `event`, and performs the actions.
    fn on(&mut self, event: Event) {
        self.journal.cause = Cause::from(&event);
        let actions = self.lifecycle.on(event);
        let is_promotion = |action: &Action| matches!(action, Action::Promote(_));
        let has_promoted = actions.iter().any(is_promotion);
        for action in actions {
            self.perform(action);
        }
        self.look_at_rollbacks();
        if has_promoted {
            // Not before: what is refused has to be known until then.
            self.forget_unneeded();
        }
        let lifecycle = &self.lifecycle;
        self.journal
            .status
            .alarm
            .take_if(|alarm| !lifecycle.is_active(alarm.generation));
        self.journal
            .status
            .gave_way
            .take_if(|given| !lifecycle.has_given_way(&given.from));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch(generation, release, purpose) => {
                self.launch(generation, &release, purpose);
            }
            Action::Promote(generation) => self.promote(generation),
            Action::Stage(generation) => self.stage(generation),
            Action::Unstage(generation) => self.unstage(generation),
            Action::ReportNothingStaged => self.report_nothing_staged(),
            Action::Withdraw => self.withdraw(),
            Action::Pin(generation) => self.pin(generation),
            Action::Drain(generation) => self.drain(generation),
            Action::Evict(generation) => self.evict(generation),
            Action::Keep(generation) => self.keep(generation),
            Action::Stop(generation) => self.stop(generation),
            Action::Refuse(generation, release, cause) => {
                self.refuse(generation, release, cause);
            }
            Action::BeginTrial(generation) => self.begin_trial(generation),
            Action::RetryAfter(failures) => self.retry_after(failures),
            Action::ReportGaveWay(generation, from, to) => {
                self.report_gave_way(generation, &from, &to);
            }
            Action::ReturnAfter(release, times) => self.return_after(release, times),
            Action::ReportNoRollbackTarget => self.report_no_rollback_target(),
            Action::ReportRollbackGivenUp(to, instead) => {
                self.report_rollback_given_up(&to, instead.as_ref());
            }
            Action::ReportRestart(end) => self.report_restart(end),
            Action::Pause => self.router.pause(),
            Action::Resume => self.resume(),
        }
    }

    /// Forgets releases that are neither needed nor run, and removes their private copies.
    fn forget_unneeded(&mut self) {
        let needed: Vec<_> = self.lifecycle.needed().cloned().collect();
        let instances = &self.instances;
        self.releases
            .retain(|id| needed.contains(id) || instances.has_release(id));
        let releases = &self.releases;
        self.lifecycle.forget_refused(|id| releases.contains(id));
        self.prune_copies();
    }

    /// Removes the private copies that can neither be launched nor run, here or in the next sidecar.
    fn prune_copies(&self) {
        let memory = &self.journal.memory;
        let remembered = [memory.good_releases(), memory.former_releases()].concat();
        let needed = self.releases.artifacts().chain(self.instances.artifacts());
        let needed = needed.cloned();
        let needed = needed.chain(remembered.into_iter().map(|release| release.artifact));
        self.watcher.prune(needed.collect());
    }

    fn publish(&self) {
        self.watcher.set_serving(self.serving_source());
        self.journal.publish(|status| {
            status.held = self.router.held();
            status.earlier = self.lifecycle.earlier().cloned().collect();
            if let Some(paused) = &mut status.paused {
                paused.in_flight = self.instances.in_flight();
            }
            self.instances.show(&self.releases, status);
            self.show_sessions(status);
            self.show_canary(status);
        });
    }

    fn send_after(&self, delay: Duration, message: Message) -> Timer {
        Timer::send_after(delay, &self.messages, message)
    }

    fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
