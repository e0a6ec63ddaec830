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
use super::readiness::Readiness;
use super::status::{Outcome, Phase, Status, UnixMillis};
use super::watcher::{Found, Watcher};
use crate::process::Launch;
use crate::process::template::Command;
use crate::release::{Generation, Release, ReleaseId};
use crate::router::{Router, Upstream};

mod facts;
mod handing_off;
mod launching;
mod reporting;

use launching::back_off;

const HEARTBEAT: Duration = Duration::from_secs(1);

/// How instances are started, checked and ended.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The command line.
    pub command: Command,
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
    /// The oldest of more draining instances than this is evicted.
    pub max_draining: usize,
    /// So many crashes within a minute, and the release before takes over.
    pub rapid_fails: u32,
}

/// What the application tells the supervisor.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Launch nothing more; be gone by then.
    Shutdown(Instant),
    /// The public port is closed and its last connection has ended.
    Closed,
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
    status: Status,
    publisher: watch::Sender<Status>,
    messages: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Accepted {
    release: Release,
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
    eviction: Option<AbortHandle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Candidate,
    Active,
    Draining,
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
    ) -> Self {
        let policy = Policy {
            max_draining: settings.max_draining,
            rapid_fails: settings.rapid_fails,
            overlap: true,
            bake: false,
            auto_rollback: true,
        };
        let (messages, inbox) = mpsc::unbounded_channel();
        let status = publisher.borrow().clone();
        Self {
            settings,
            launcher,
            router,
            watcher,
            lifecycle: Lifecycle::new(policy, Vec::new()),
            releases: HashMap::new(),
            instances: BTreeMap::new(),
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
                _ = heartbeat.tick() => {}
            }
            self.publish();
        }
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Problem(problem) => {
                match &problem {
                    Some(reason) => tracing::warn!(%reason, "no artifact can be accepted"),
                    None => tracing::info!("artifacts can be accepted again"),
                }
                self.status.artifact_problem = problem;
            }
            Found::Release {
                release,
                detected,
                copied,
            } => {
                let id = release.id.clone();
                tracing::info!(release = %id, digest = %release.digest, "artifact detected");
                let accepted = Accepted {
                    release,
                    detected,
                    copied,
                };
                self.releases.insert(id.clone(), accepted);
                self.on(Event::Detected(id));
            }
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
                self.instances.remove(&generation);
                self.on(Event::LaunchFailed(generation));
            }
            Message::Gone(generation) => self.gone(generation),
            Message::Drained(generation, promotion) => self.drained(generation, promotion),
            Message::Happened(event) => self.on(event),
        }
    }

    fn on(&mut self, event: Event) {
        for action in self.lifecycle.on(event) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch(generation, release, _) => self.launch(generation, &release),
            Action::Promote(generation) => self.promote(generation),
            Action::Withdraw => {
                tracing::warn!("nothing is active: requests are held");
                self.router.withdraw();
            }
            Action::Drain(generation) => self.drain(generation),
            Action::Evict(generation) => self.evict(generation),
            Action::Stop(generation) => self.stop(generation),
            Action::Keep(_)
            | Action::Bake(_)
            | Action::NothingToGoBackTo
            | Action::Pause
            | Action::Resume => {}
            Action::Refuse(generation, release, _) => {
                tracing::error!(?generation, %release, "refused");
                if let Some(handoff) = generation.and_then(|g| self.status.handoff(g)) {
                    handoff.outcome = Outcome::Refused;
                }
            }
            Action::RetryAfter(failures) => {
                let delay = back_off(failures);
                tracing::info!(?delay, failures, "starts again");
                self.later(delay, Message::Happened(Event::RetryDue));
            }
        }
    }

    fn later(&self, delay: Duration, message: Message) {
        let messages = self.messages.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            let _ = messages.send(message);
        });
    }

    fn tell(&self, message: Message) {
        let _ = self.messages.send(message);
    }
}

// === impl Instance ===

impl Instance {
    fn become_(&mut self, state: State) {
        self.state = state;
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
