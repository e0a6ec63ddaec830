//! The table of launched instances.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Message;
use super::releases::Releases;
use super::timer::Timer;
use super::trial::ErrorShare;
use crate::control_plane::instance::LastProbe;
use crate::deployment::status::{InstanceStatus, Status, UnixMillis};
use crate::process::variables::Variables;
use crate::release::{Generation, Release, ReleaseId};
use crate::router::{AppProtocol, Progress, ResponseCounts, SessionToken, Upstream};

/// All instances that have been launched and have not ended.
#[derive(Debug, Default)]
pub(super) struct Instances(BTreeMap<Generation, Instance>);

/// A launched instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) release: ReleaseId,
    /// The private copy that it runs.
    pub(super) artifact: PathBuf,
    pub(super) state: InstanceState,
    /// True while `--before-start` runs: there is no process yet.
    pub(super) is_preparing: bool,
    pub(super) since: UnixMillis,
    pub(super) pid: Option<u32>,
    pub(super) address: Option<SocketAddr>,
    /// The user who listened there when it became ready, if that is looked at.
    pub(super) user: Option<u32>,
    /// The protocol in which it became ready.
    pub(super) protocol: AppProtocol,
    pub(super) warning: Option<String>,
    pub(super) note: Option<String>,
    /// The app's own variables at the launch.
    pub(super) environment: Variables,
    stop: watch::Sender<Option<Instant>>,
    last_probe: LastProbe,
    upstream: Weak<Upstream>,
    /// Number of upstreams so far: only the drain of the latest one counts.
    promotions: u32,
    answers: Option<Arc<ResponseCounts>>,
    /// Its name in the cookies of clients, with `--sticky`.
    pub(super) session: Option<SessionToken>,
    pub(super) progress: Arc<Progress>,
    pub(super) state_file: Option<PathBuf>,
    pub(super) eviction: Timer,
    pub(super) liveness: Timer,
    pub(super) settling: Timer,
}

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstanceState {
    Candidate,
    Staged,
    Active,
    /// Superseded; requests of sessions that began there still reach it.
    Pinned,
    Draining,
    Standby,
    Stopping,
}

// === impl Instances ===

impl Instances {
    pub(super) fn insert(&mut self, generation: Generation, instance: Instance) {
        self.0.insert(generation, instance);
    }

    pub(super) fn remove(&mut self, generation: Generation) -> Option<Instance> {
        self.0.remove(&generation)
    }

    pub(super) fn get(&self, generation: Generation) -> Option<&Instance> {
        self.0.get(&generation)
    }

    pub(super) fn get_mut(&mut self, generation: Generation) -> Option<&mut Instance> {
        self.0.get_mut(&generation)
    }

    pub(super) fn state_of(&self, generation: Generation) -> Option<InstanceState> {
        self.get(generation).map(|instance| instance.state)
    }

    pub(super) fn active(&self) -> Option<(Generation, &Instance)> {
        let mut instances = self.0.iter();
        let is_active = |(_, instance): &(_, &Instance)| instance.state == InstanceState::Active;
        let (generation, instance) = instances.find(is_active)?;
        Some((*generation, instance))
    }

    pub(super) fn staged(&self) -> Option<(Generation, &ReleaseId)> {
        let mut instances = self.0.iter();
        let is_staged = |(_, instance): &(_, &Instance)| instance.state == InstanceState::Staged;
        let (generation, instance) = instances.find(is_staged)?;
        Some((*generation, &instance.release))
    }

    /// Returns the private copies that all instances run.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.values().map(|instance| &instance.artifact)
    }

    /// Returns true if any instance of the release has not ended.
    pub(super) fn has_release(&self, id: &ReleaseId) -> bool {
        self.0.values().any(|instance| instance.release == *id)
    }

    /// Returns true while there is nothing but an active and a standby instance, both without
    /// requests.
    pub(super) fn are_at_rest(&self) -> bool {
        self.0.values().all(|instance| {
            matches!(
                instance.state,
                InstanceState::Active
                    | InstanceState::Pinned
                    | InstanceState::Standby
                    | InstanceState::Staged
            ) && instance.in_flight() == 0
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.0.values().map(Instance::in_flight).sum()
    }

    /// Returns the numbers of responses and of errors of an instance.
    pub(super) fn answers(&self, generation: Generation) -> (u64, u64) {
        let answers = self.get(generation).and_then(|i| i.answers.as_ref());
        answers.map_or((0, 0), |answers| answers.read())
    }

    /// Returns the share of errors among the responses of an instance.
    pub(super) fn error_share(&self, generation: Generation) -> ErrorShare {
        ErrorShare::of(self.answers(generation))
    }

    /// Kills every instance now.
    pub(super) fn kill_all(&self) {
        for (generation, instance) in &self.0 {
            tracing::warn!(
                event = "instance_killed",
                generation = generation.0,
                release = %instance.release,
                "instance killed: the shutdown timeout is over"
            );
            instance.stop_by(Instant::now());
        }
    }

    /// Adds all instances to a status.
    pub(super) fn show(&self, releases: &Releases, status: &mut Status) {
        for (&generation, instance) in &self.0 {
            let shown = instance.show(generation, releases);
            match instance.state {
                InstanceState::Candidate => status.candidate = Some(shown),
                InstanceState::Staged => status.staged = Some(shown),
                InstanceState::Active => status.active = Some(shown),
                InstanceState::Standby => status.standby = Some(shown),
                InstanceState::Pinned | InstanceState::Draining => status.draining.push(shown),
                InstanceState::Stopping => status.stopping.push(shown),
            }
        }
    }
}

// === impl Instance ===

impl Instance {
    /// Creates a candidate of the release. Its responses are counted in `answers`, if given.
    pub(super) fn new(
        release: &Release,
        environment: Variables,
        answers: Option<Arc<ResponseCounts>>,
        session: Option<SessionToken>,
    ) -> Self {
        Self {
            environment,
            answers,
            session,
            ..Self::adopted(release.id.clone(), release.artifact.clone())
        }
    }

    /// Creates an instance that runs already. Little is known of it yet.
    pub(super) fn adopted(release: ReleaseId, artifact: PathBuf) -> Self {
        Self {
            release,
            artifact,
            state: InstanceState::Candidate,
            is_preparing: false,
            since: UnixMillis::now(),
            pid: None,
            address: None,
            user: None,
            protocol: AppProtocol::default(),
            warning: None,
            note: None,
            environment: Variables::default(),
            stop: watch::Sender::new(None),
            last_probe: LastProbe::default(),
            upstream: Weak::new(),
            promotions: 0,
            answers: None,
            session: None,
            progress: Arc::default(),
            state_file: None,
            eviction: Timer::default(),
            liveness: Timer::default(),
            settling: Timer::default(),
        }
    }

    /// Enters a state, and returns the one before. Timers of that one end.
    pub(super) fn enter(&mut self, state: InstanceState) -> InstanceState {
        self.liveness = Timer::default();
        self.eviction = Timer::default();
        self.since = UnixMillis::now();
        std::mem::replace(&mut self.state, state)
    }

    /// Returns the time by which the instance has to end, as it changes.
    pub(super) fn stop_time(&self) -> watch::Receiver<Option<Instant>> {
        self.stop.subscribe()
    }

    /// Sets the time at which the instance is killed. Until then it is asked to stop.
    pub(super) fn stop_by(&self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
    }

    pub(super) fn last_probe(&self) -> LastProbe {
        Rc::clone(&self.last_probe)
    }

    /// Returns the number of upstreams so far, as the mark of the present one.
    pub(super) fn promotion(&self) -> u32 {
        self.promotions
    }

    pub(super) fn upstream(&self) -> Weak<Upstream> {
        self.upstream.clone()
    }

    /// Returns the upstream that new requests are routed to: the present one while it drains, else
    /// a new one, whose drain is reported to `messages`.
    pub(super) fn route(
        &mut self,
        generation: Generation,
        address: SocketAddr,
        messages: &mpsc::UnboundedSender<Message>,
    ) -> Arc<Upstream> {
        let present = self.upstream.upgrade();
        if let Some(upstream) = present.filter(|upstream| !upstream.is_evicted()) {
            return upstream;
        }
        self.promotions += 1;
        let promotion = self.promotions;
        let (answers, progress) = (self.answers.clone(), Arc::clone(&self.progress));
        let (upstream, drain) = Upstream::with_counts(
            generation,
            address,
            self.protocol,
            self.user,
            answers,
            progress,
            self.session,
        );
        self.upstream = drain.upstream();
        let messages = messages.clone();
        tokio::task::spawn_local(async move {
            drain.wait().await;
            let _ = messages.send(Message::Drained(generation, promotion));
        });
        upstream
    }

    /// Returns the number of requests and tunnels in flight. The router's own handle is none.
    pub(super) fn in_flight(&self) -> usize {
        let has_handle = matches!(
            self.state,
            InstanceState::Active
                | InstanceState::Pinned
                | InstanceState::Staged
                | InstanceState::Standby
        );
        let routed = usize::from(has_handle);
        self.upstream.strong_count().saturating_sub(routed)
    }

    /// Returns the number of requests and tunnels that an end of the active instance leaves without a
    /// whole response: those in flight, and those that were until a moment ago.
    pub(super) fn unfinished(&self) -> usize {
        let upstream = self.upstream.upgrade();
        let unanswered = upstream.map_or(0, |upstream| upstream.unanswered().recent());
        self.in_flight() + unanswered
    }

    fn show(&self, generation: Generation, releases: &Releases) -> InstanceStatus {
        InstanceStatus {
            generation,
            release: self.release.clone(),
            digest: releases.digest_of(&self.release),
            source: releases.source_of(&self.release),
            pid: self.pid,
            address: self.address,
            since_ms: self.since,
            in_flight: self.in_flight(),
            tunnels: self.upstream.upgrade().map_or(0, |u| u.tunnels()),
            probe: self.last_probe.borrow().clone(),
            warning: self.warning.clone(),
            note: self.note.clone(),
            state_file: self.state_file.clone(),
            // Measured only for a reader.
            memory_bytes: None,
            sessions: None,
            sessions_until_ms: None,
        }
    }
}

// === impl InstanceState ===

impl InstanceState {
    /// Returns the word for the state in the log and the status.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Pinned => "pinned",
            Self::Draining => "draining",
            Self::Standby => "standby",
            Self::Stopping => "stopping",
        }
    }
}
