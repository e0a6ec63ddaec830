//! The only task that launches, promotes, drains and stops.
//!
//! It reports facts to the [`Lifecycle`] and performs the actions that follow. What takes time
//! (a start, a drain, a stop, a back-off) runs beside it and comes back as a fact.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::instance::{Fact, LastProbe};
use super::lifecycle::{Action, Event, Lifecycle, Policy};
use super::live::{Change, LiveCheck};
use super::memory::Memory;
use super::readiness::Readiness;
use super::siblings::Siblings;
use super::watcher::{Found, Watcher};
use crate::deployment::desired::Desired;
use crate::deployment::status::{Phase, Status, UnixMillis};
use crate::process::Launch;
use crate::process::stop::Stop;
use crate::process::template::Command;
use crate::process::variables::Variables;
use crate::release::{Generation, Release, ReleaseId};
use crate::router::{Answers, Router, Upstream};

mod asking;
mod baking;
mod changing;
mod facts;
mod finding;
mod handing_off;
mod launching;
mod reporting;

use changing::because;
use launching::back_off;

const HEARTBEAT: Duration = Duration::from_secs(1);

/// How instances are started, checked and ended.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The command line.
    pub command: Command,
    /// The app's own variables.
    pub environment: Variables,
    /// `{shared}`.
    pub shared: PathBuf,
    /// The health check.
    pub readiness: Readiness,
    /// For a start while nothing has served yet.
    pub start_timeout: Duration,
    /// For a start, from the launch.
    pub deploy_timeout: Duration,
    /// For requests in flight to a superseded instance.
    pub drain_timeout: Duration,
    /// For upgraded connections and event streams to it.
    pub tunnel_drain_timeout: Duration,
    /// From the polite request to the kill.
    pub stop_timeout: Duration,
    /// How an instance is asked to stop.
    pub stop: Stop,
    /// The oldest of more draining instances than this is evicted.
    pub max_draining: usize,
    /// So many crashes within a minute, and the release before takes over.
    pub rapid_fails: u32,
    /// Whether two instances may run side by side.
    pub overlap: bool,
    /// What watches the active instance.
    pub live: LiveCheck,
    /// How long the superseded instance is kept on standby.
    pub bake: Duration,
    /// Going back when the share of errors has risen by more than this.
    pub bake_max_errors: Option<f64>,
    /// Whether to go back to another release without being asked.
    pub auto_rollback: bool,
    /// More ports for the app, by name.
    pub port_names: Vec<String>,
}

/// What the application tells the supervisor.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Launch nothing more; be gone by then.
    Shutdown(Instant),
    /// The public port is closed and its last connection has ended.
    Closed,
}

/// What was before this sidecar, and is beside it.
#[derive(Debug)]
pub struct Past {
    /// What this machine remembers.
    pub memory: Memory,
    /// The releases that served before and can be launched, the latest last.
    pub good: Vec<Release>,
    /// What others run and refuse, for one that remembers nothing.
    pub siblings: Siblings,
}

/// The driver.
#[derive(Debug)]
pub struct Supervisor<L> {
    settings: Settings,
    launcher: L,
    router: Arc<Router>,
    watcher: Watcher,
    lifecycle: Lifecycle,
    releases: HashMap<ReleaseId, Accepted>,
    instances: BTreeMap<Generation, Instance>,
    memory: Memory,
    siblings: Siblings,
    /// An artifact that siblings refused waits for what they run instead.
    deferred: Option<Accepted>,
    desired: Option<Desired>,
    /// When the supervisor learnt what it acts on now.
    verdict: Instant,
    /// What that is.
    because: String,
    trial: Option<baking::Trial>,
    /// The active instance that has had its turn to give way to one with the present variables.
    renewed: Option<Generation>,
    retry: Timer,
    pause: Timer,
    status: Status,
    publisher: watch::Sender<Status>,
    messages: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    deadline: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Accepted {
    release: Release,
    /// Where it was deployed, if that is known.
    source: Option<PathBuf>,
    detected: SystemTime,
    copied: SystemTime,
}

#[derive(Debug)]
struct Instance {
    release: ReleaseId,
    state: State,
    since: UnixMillis,
    pid: Option<u32>,
    address: Option<std::net::SocketAddr>,
    stop: watch::Sender<Option<Instant>>,
    upstream: Weak<Upstream>,
    last_probe: LastProbe,
    /// Which of its upstreams is the present one: only that one's drain counts.
    promotions: u32,
    eviction: Timer,
    live: Timer,
    settled: Timer,
    answers: Option<Arc<Answers>>,
    warning: Option<String>,
    /// The app's own variables, as it got them.
    environment: Variables,
}

/// A task that ends with this value, or with the next one in its place.
#[derive(Debug, Default)]
struct Timer(Option<AbortHandle>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Candidate,
    Active,
    Draining,
    Standby,
    Stopping,
}

#[derive(Debug)]
enum Message {
    Instance(Generation, Fact),
    /// There is no process, and that is not the release's fault.
    LaunchFailed(Generation),
    /// There is no process, and that is the release's fault.
    Gone(Generation),
    Drained(Generation, u32),
    Live(Generation, Change),
    Happened(Event),
}

// === impl Supervisor ===

impl<L: Launch> Supervisor<L> {
    /// A supervisor of nothing yet; `publisher` holds the status that it goes on from.
    pub fn new(
        settings: Settings,
        launcher: L,
        router: Arc<Router>,
        watcher: Watcher,
        publisher: watch::Sender<Status>,
        past: Past,
    ) -> Self {
        let Past {
            memory,
            good,
            siblings,
        } = past;
        let lifecycle = Lifecycle::new(
            settings.policy(),
            good.iter().map(|r| r.id.clone()).collect(),
        );
        let now = SystemTime::now();
        let accepted = |release: Release| {
            let id = release.id.clone();
            let accepted = Accepted {
                release,
                source: None,
                detected: now,
                copied: now,
            };
            (id, accepted)
        };
        let (messages, inbox) = mpsc::unbounded_channel();
        let status = publisher.borrow().clone();
        Self {
            settings,
            launcher,
            router,
            watcher,
            lifecycle,
            releases: good.into_iter().map(accepted).collect(),
            instances: BTreeMap::new(),
            memory,
            siblings,
            deferred: None,
            desired: None,
            verdict: Instant::now(),
            because: String::new(),
            trial: None,
            renewed: None,
            retry: Timer::default(),
            pause: Timer::default(),
            status,
            publisher,
            messages,
            inbox,
            deadline: None,
        }
    }

    /// Supervises until it was ordered to shut down and the last instance is gone.
    ///
    /// Processes are started on the calling thread, which has to live as long as they may.
    pub async fn run(
        mut self,
        mut found: mpsc::UnboundedReceiver<Found>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.lifecycle.is_finished() {
            let deadline = self.deadline;
            tokio::select! {
                Some(found) = found.recv() => self.found(found),
                Some(message) = self.inbox.recv() => self.message(message),
                Some(order) = orders.recv() => self.order(order),
                () = until(deadline) => self.out_of_time(),
                _ = heartbeat.tick() => self.look_at_the_trial(),
            }
            self.renew();
            self.publish();
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Shutdown(deadline) => {
                self.deadline = Some(deadline);
                self.status.phase = Phase::Stopping;
                self.on(Event::ShutdownRequested);
            }
            Order::Closed => self.on(Event::Closed),
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Instance(generation, fact) => self.fact(generation, fact),
            Message::LaunchFailed(generation) => {
                self.remove(generation, "it could not be started".to_owned());
                self.on(Event::LaunchFailed(generation));
            }
            Message::Gone(generation) => {
                self.gone(generation, "it could not be started".to_owned(), false);
            }
            Message::Drained(generation, promotion) => self.drained(generation, promotion),
            Message::Live(generation, change) => self.live(generation, change),
            Message::Happened(event) => self.on(event),
        }
    }

    fn on(&mut self, event: Event) {
        self.verdict = Instant::now();
        self.because = because(&event);
        let actions = self.lifecycle.on(event);
        let is_promotion = |action: &Action| matches!(action, Action::Promote(_));
        let has_moved = actions.iter().any(is_promotion);
        for action in actions {
            self.perform(action);
        }
        if has_moved {
            // Only now: what is refused has to be known until then.
            self.forget_unneeded();
        }
        let lifecycle = &self.lifecycle;
        self.status
            .alarm
            .take_if(|alarm| !lifecycle.is_active(alarm.generation));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch(generation, release, purpose) => {
                self.launch(generation, &release, purpose);
            }
            Action::Promote(generation) => self.promote(generation),
            Action::Withdraw => {
                tracing::warn!("nothing is active: requests are held");
                self.router.withdraw();
            }
            Action::Drain(generation) => self.drain(generation),
            Action::Evict(generation) => self.evict(generation),
            Action::Keep(generation) => self.keep(generation),
            Action::Stop(generation) => self.stop(generation),
            Action::Refuse(generation, release, verdict) => {
                self.refuse(generation, release, verdict);
            }
            Action::Bake(generation) => self.bake(generation),
            Action::RetryAfter(failures) => {
                let delay = back_off(failures);
                tracing::info!(?delay, failures, "starts again");
                self.retry = self.later(delay, Message::Happened(Event::RetryDue));
            }
            Action::NothingToGoBackTo => self.nothing_to_go_back_to(),
            Action::Pause => self.router.pause(),
            Action::Resume => {
                tracing::info!("the pause is over");
                self.pause = Timer::default();
                self.status.paused = None;
                self.router.resume();
            }
        }
    }

    fn later(&self, delay: Duration, message: Message) -> Timer {
        let messages = self.messages.clone();
        let task = tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            let _ = messages.send(message);
        });
        Timer(Some(task.abort_handle()))
    }

    fn tell(&self, message: Message) {
        let _ = self.messages.send(message);
    }
}

// === impl Settings ===

impl Settings {
    /// What of `new` ones can be taken over while instances run.
    #[must_use]
    pub fn reloaded(&self, new: Self) -> Self {
        let Self {
            command,
            shared,
            overlap,
            port_names,
            ..
        } = self.clone();
        Self {
            command,
            shared,
            overlap,
            port_names,
            ..new
        }
    }

    fn policy(&self) -> Policy {
        Policy {
            max_draining: self.max_draining,
            rapid_fails: self.rapid_fails,
            overlap: self.overlap,
            bake: !self.bake.is_zero(),
            auto_rollback: self.auto_rollback,
        }
    }
}

// === impl Timer ===

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

// === impl Instance ===

impl Instance {
    fn become_(&mut self, state: State) {
        self.state = state;
        self.live = Timer::default();
        self.eviction = Timer::default();
        self.since = UnixMillis::now();
    }

    /// Handles that requests and tunnels hold; the router holds one itself.
    fn in_flight(&self) -> usize {
        let routed = usize::from(self.state == State::Active);
        self.upstream.strong_count().saturating_sub(routed)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
