//! The only task that launches, promotes, drains and stops.
//!
//! It reports facts to the [`Lifecycle`] and performs the actions that follow. What takes time
//! (a start, a drain, a stop, a back-off) runs beside it and comes back as a fact.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::environment;
use super::instance::{self, Care, Fact, LastProbe};
use super::lifecycle::{Action, Event, Lifecycle, Policy};
use super::readiness::Readiness;
use super::status::{Failure, InstanceStatus, Outcome, Phase, Status, UnixMillis};
use super::watcher::{Found, Watcher};
use crate::process::template::{Command, Values};
use crate::process::{Launch, LaunchSpec, Process as _};
use crate::release::{Generation, Release, ReleaseId};
use crate::router::{Class, Router, Upstream};

/// Where the app listens.
const HOST: &str = "127.0.0.1";
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Who has served for so long does not fail rapidly any more.
const SETTLED: Duration = Duration::from_secs(60);
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);
/// For evicted tunnels to close; and again for what was cut to be noticed, which takes for ever where
/// a client reads no more.
const EVICTION: Duration = Duration::from_secs(3);

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
        };
        let (messages, inbox) = mpsc::unbounded_channel();
        let status = publisher.borrow().clone();
        Self {
            settings,
            launcher,
            router,
            watcher,
            lifecycle: Lifecycle::new(policy),
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

    fn fact(&mut self, generation: Generation, fact: Fact) {
        match fact {
            Fact::Ready(address) => {
                if let Some(instance) = self.instances.get_mut(&generation) {
                    instance.address = Some(address);
                }
                if let Some(handoff) = self.status.handoff(generation) {
                    handoff.ready_ms = Some(UnixMillis::now());
                }
                self.on(Event::Ready(generation));
            }
            Fact::NeverReady {
                reason,
                output,
                probe,
            } => {
                self.failed(generation, reason, |failure| {
                    failure.output = output;
                    failure.probe = Some(probe);
                });
                self.on(Event::NeverReady(generation));
            }
            Fact::PortTaken => {
                let reason = "its port was taken by another program before it could listen";
                self.failed(generation, reason.to_owned(), |_| {});
                self.message(Message::LaunchFailed(generation));
            }
            Fact::Exited { exit, probe } => {
                let state = self.instances.get(&generation).map(|i| i.state);
                let reason = match state {
                    Some(State::Candidate) => Some("before it was ready"),
                    Some(State::Active) => Some("while it was active"),
                    Some(State::Draining) => Some("while it drained"),
                    Some(State::Stopping) | None => None,
                };
                match reason {
                    Some(when) => {
                        let reason = format!("exited with {} {when}", exit.status);
                        self.failed(generation, reason, |failure| {
                            failure.exit = Some(exit.status);
                            failure.output = exit.output;
                            failure.probe = probe;
                        });
                    }
                    None => tracing::info!(%generation, status = exit.status, "stopped"),
                }
                self.gone(generation);
            }
        }
    }

    /// Its processes are gone.
    fn gone(&mut self, generation: Generation) {
        let instance = self.instances.remove(&generation);
        if let Some(eviction) = instance.and_then(|instance| instance.eviction) {
            eviction.abort();
        }
        if let Some(handoff) = self.status.superseding(generation) {
            let now = UnixMillis::now();
            handoff.drained_ms.get_or_insert(now);
            handoff.stopped_ms.get_or_insert(now);
        }
        self.on(Event::Exited(generation));
        self.forget_unneeded();
    }

    fn drained(&mut self, generation: Generation, promotion: u32) {
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        if instance.state != State::Draining || instance.promotions != promotion {
            return;
        }
        if let Some(eviction) = instance.eviction.take() {
            eviction.abort();
        }
        if let Some(handoff) = self.status.superseding(generation) {
            handoff.drained_ms = Some(UnixMillis::now());
        }
        self.on(Event::Drained(generation));
    }

    fn failed(&mut self, generation: Generation, reason: String, more: impl FnOnce(&mut Failure)) {
        let Some(instance) = self.instances.get(&generation) else {
            return;
        };
        let release = instance.release.clone();
        let mut failure = Failure {
            digest: self.digest_of(&release),
            release,
            generation,
            at_ms: UnixMillis::now(),
            reason,
            exit: None,
            output: Default::default(),
            probe: None,
        };
        more(&mut failure);
        let Failure {
            release, reason, ..
        } = &failure;
        tracing::error!(%generation, %release, %reason, "failed");
        if let Some(handoff) = self.status.handoff(generation)
            && handoff.promoted_ms.is_none()
        {
            handoff.outcome = Outcome::Failed;
            handoff.reason = Some(reason.clone());
        }
        self.status.last_failure = Some(failure);
    }

    fn on(&mut self, event: Event) {
        for action in self.lifecycle.on(event) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch(generation, release) => self.launch(generation, &release),
            Action::Promote(generation) => self.promote(generation),
            Action::Withdraw => {
                tracing::warn!("nothing is active: requests are held");
                self.router.withdraw();
            }
            Action::Drain(generation) => self.drain(generation),
            Action::Evict(generation) => self.evict(generation),
            Action::Stop(generation) => self.stop(generation),
            Action::Refuse(generation, release) => {
                tracing::error!(%generation, %release, "refused");
                if let Some(handoff) = self.status.handoff(generation) {
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

    fn launch(&mut self, generation: Generation, id: &ReleaseId) {
        let Some(accepted) = self.releases.get(id) else {
            // Every release that the lifecycle may ask for is kept while it is needed.
            tracing::error!(%generation, release = %id, "its copy is gone");
            return self.tell(Message::LaunchFailed(generation));
        };
        let handoff = self.status.launched(&accepted.release, generation);
        handoff.detected_ms = Some(accepted.detected.into());
        handoff.copied_ms = Some(accepted.copied.into());
        let (stop, stop_by) = watch::channel(None);
        let instance = Instance {
            release: id.clone(),
            state: State::Candidate,
            since: UnixMillis::now(),
            pid: None,
            address: None,
            stop,
            upstream: Weak::new(),
            last_probe: LastProbe::default(),
            promotions: 0,
            eviction: None,
        };
        self.instances.insert(generation, instance);
        let process = self.start(generation, &accepted.release);
        let (process, port) = match process {
            Ok(started) => started,
            Err(NotStarted { reason, message }) => {
                self.failed(generation, reason, |_| {});
                return self.tell(message);
            }
        };
        let pid = process.pid();
        let mut last_probe = LastProbe::default();
        tracing::info!(%generation, release = %id, pid, port, to = "candidate", "launched");
        if let Some(instance) = self.instances.get_mut(&generation) {
            instance.pid = Some(pid);
            last_probe = Rc::clone(&instance.last_probe);
        }
        let start_timeout = match self.lifecycle.has_served() {
            true => self.settings.deploy_timeout,
            false => self.settings.start_timeout,
        };
        let care = Care {
            port,
            readiness: self.settings.readiness.clone(),
            start_timeout,
            last_probe,
        };
        let messages = self.messages.clone();
        let report = move |fact| {
            // The supervisor is gone only after the last instance.
            let _ = messages.send(Message::Instance(generation, fact));
        };
        tokio::task::spawn_local(instance::follow(process, care, stop_by, report));
    }

    fn start(
        &self,
        generation: Generation,
        release: &Release,
    ) -> Result<(L::Process, u16), NotStarted> {
        let machines_fault = |reason: String| NotStarted {
            reason,
            message: Message::LaunchFailed(generation),
        };
        let port = free_port().map_err(|error| machines_fault(format!("no free port: {error}")))?;
        let values = Values {
            release,
            port,
            host: HOST,
            shared: &self.settings.shared,
        };
        let releases_fault = |reason: String| NotStarted {
            reason,
            message: Message::Gone(generation),
        };
        let (program, args) = self
            .settings
            .command
            .expand(values)
            .map_err(|error| releases_fault(error.to_string()))?;
        let spec = LaunchSpec {
            generation,
            release: release.id.clone(),
            program,
            args,
            env: environment::of(values),
            workdir: release.dir.clone(),
        };
        let process =
            self.launcher
                .launch(spec)
                .map_err(|error| match error.is_releases_fault {
                    true => releases_fault(error.to_string()),
                    false => machines_fault(error.to_string()),
                })?;
        Ok((process, port))
    }

    fn promote(&mut self, generation: Generation) {
        let superseded = self.router.acquire().map(|upstream| upstream.generation);
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        let Some(address) = instance.address else {
            return;
        };
        if let Some(eviction) = instance.eviction.take() {
            eviction.abort();
        }
        let from = instance.state;
        instance.become_(State::Active);
        let upstream = match instance.upstream.upgrade() {
            // Routed to again while it still drains.
            Some(upstream) => upstream,
            None => {
                instance.promotions += 1;
                let promotion = instance.promotions;
                let (upstream, drain) = Upstream::new(generation, address);
                instance.upstream = drain.upstream();
                let messages = self.messages.clone();
                tokio::task::spawn_local(async move {
                    drain.wait().await;
                    let _ = messages.send(Message::Drained(generation, promotion));
                });
                upstream
            }
        };
        self.router.promote(upstream);
        tracing::info!(
            %generation,
            release = %instance.release,
            ?from,
            to = ?State::Active,
            %address,
            "promoted"
        );
        if let Some(handoff) = self.status.handoff(generation) {
            handoff.outcome = Outcome::Promoted;
            handoff.promoted_ms.get_or_insert_with(UnixMillis::now);
            if from == State::Candidate {
                handoff.superseded_generation = superseded;
            }
        }
        self.later(SETTLED, Message::Happened(Event::Settled(generation)));
        self.forget_unneeded();
    }

    fn drain(&mut self, generation: Generation) {
        let Settings {
            drain_timeout,
            tunnel_drain_timeout,
            ..
        } = self.settings;
        let router = Arc::clone(&self.router);
        let messages = self.messages.clone();
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        instance.become_(State::Draining);
        let in_flight = instance.in_flight();
        tracing::info!(%generation, release = %instance.release, in_flight, "draining");
        let upstream = instance.upstream.clone();
        let promotion = instance.promotions;
        let start = Instant::now();
        let eviction = tokio::task::spawn_local(async move {
            let tunnels = tunnel_drain_timeout.min(drain_timeout);
            router.close_tunnels(&upstream, tunnels);
            tokio::time::sleep_until(start + tunnels).await;
            router.evict(&upstream, Class::Tunnel);
            tokio::time::sleep_until(start + drain_timeout).await;
            evict_all(&router, &upstream, generation).await;
            let _ = messages.send(Message::Drained(generation, promotion));
        });
        instance.eviction = Some(eviction.abort_handle());
    }

    fn evict(&mut self, generation: Generation) {
        let router = Arc::clone(&self.router);
        let messages = self.messages.clone();
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        let upstream = instance.upstream.clone();
        let promotion = instance.promotions;
        let evicting = tokio::task::spawn_local(async move {
            evict_all(&router, &upstream, generation).await;
            let _ = messages.send(Message::Drained(generation, promotion));
        });
        if let Some(eviction) = instance.eviction.replace(evicting.abort_handle()) {
            eviction.abort();
        }
    }

    fn stop(&mut self, generation: Generation) {
        let mut stop_by = Instant::now() + self.settings.stop_timeout;
        if let Some(deadline) = self.deadline {
            stop_by = stop_by.min(deadline);
        }
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        let from = instance.state;
        instance.become_(State::Stopping);
        tracing::info!(%generation, release = %instance.release, ?from, "stopping");
        instance.stop.send_replace(Some(stop_by));
        if from == State::Candidate
            && let Some(handoff) = self.status.handoff(generation)
            && handoff.outcome == Outcome::Starting
        {
            handoff.outcome = Outcome::Abandoned;
        }
    }

    /// The shutdown has lasted for as long as it may.
    fn out_of_time(&mut self) {
        self.deadline = None;
        for (generation, instance) in &self.instances {
            tracing::warn!(%generation, "killed: the shutdown timeout is over");
            instance.stop.send_replace(Some(Instant::now()));
        }
    }

    fn forget_unneeded(&mut self) {
        let needed: Vec<_> = self.lifecycle.needed().cloned().collect();
        let runs = |id: &ReleaseId| self.instances.values().any(|i| i.release == *id);
        self.releases
            .retain(|id, _| needed.contains(id) || runs(id));
        self.watcher.prune(self.releases.keys().cloned().collect());
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

    fn digest_of(&self, id: &ReleaseId) -> String {
        let digest = self.releases.get(id).map(|a| a.release.digest.to_string());
        digest.unwrap_or_default()
    }

    fn publish(&self) {
        let mut status = self.status.clone();
        status.heartbeat_ms = UnixMillis::now();
        status.held = self.router.held();
        for (&generation, instance) in &self.instances {
            let shown = InstanceStatus {
                generation,
                release: instance.release.clone(),
                digest: self.digest_of(&instance.release),
                pid: instance.pid,
                address: instance.address,
                since_ms: instance.since,
                in_flight: instance.in_flight(),
                tunnels: instance.upstream.upgrade().map_or(0, |u| u.tunnels()),
                probe: instance.last_probe.borrow().clone(),
            };
            match instance.state {
                State::Candidate => status.candidate = Some(shown),
                State::Active => status.active = Some(shown),
                State::Draining => status.draining.push(shown),
                State::Stopping => status.stopping.push(shown),
            }
        }
        self.publisher.send_replace(status);
    }
}

/// Why there is no process, and what the supervisor has to be told.
struct NotStarted {
    reason: String,
    message: Message,
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

async fn evict_all(router: &Router, upstream: &Weak<Upstream>, generation: Generation) {
    let in_flight = upstream.strong_count();
    tracing::warn!(%generation, in_flight, "evicted: the drain timeout is over");
    router.evict(upstream, Class::Request);
    router.close_tunnels(upstream, EVICTION);
    tokio::time::sleep(EVICTION).await;
    router.evict(upstream, Class::Tunnel);
    tokio::time::sleep(EVICTION).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Doubles with each failure; the first restart is immediate.
fn back_off(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST_BACK_OFF
            .saturating_mul(1 << (failures - 1).min(16))
            .min(LAST_BACK_OFF),
    }
}

/// A port that nobody listens on now. Another program may take it before the app does; then the
/// launch is tried again with another one.
fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
