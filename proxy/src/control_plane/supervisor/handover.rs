//! The handover of requests from one instance to the next, and the end of the one before.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::instances::InstanceState;
use super::journal::Change;
use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::lifecycle::Event;
use crate::deployment::status::Phase;
use crate::process::Launch;
use crate::release::Generation;
use crate::router::{Class, Router, Upstream};

/// Time of service after which an end is no rapid failure any more.
pub(super) const SETTLED: Duration = Duration::from_secs(60);
/// Time for evicted tunnels to close, and again for the cut of what is left to be noticed, which
/// may never happen if a client does not read.
const EVICTION: Duration = Duration::from_secs(3);

/// The reason for an eviction.
#[derive(Clone, Copy)]
enum EvictionCause {
    DrainTimeout,
    TooManyDraining,
}

impl<L: Launch> Supervisor<L> {
    pub(super) fn promote(&mut self, generation: Generation) {
        let superseded = self.router.routed();
        let Some((from, address)) = self.begin_service(generation) else {
            return;
        };
        if from == InstanceState::Staged {
            self.journal.status.staged_until_ms = None;
            self.stage_end = Timer::default();
        }
        let took = self.journal.cause.elapsed();
        if let Some(instance) = self.instances.get(generation) {
            let change = (Some(from), Some(InstanceState::Active));
            let promoted = Change::Promoted { address, took };
            self.journal
                .log_change(generation, &instance.release, change, &promoted);
        }
        self.journal
            .record_promotion(generation, from, superseded, took);
        self.journal.remember_promotion(generation, &self.releases);
        self.keep_record(generation);
    }

    /// Routes new requests to an instance, and returns its state before and its address.
    pub(super) fn begin_service(
        &mut self,
        generation: Generation,
    ) -> Option<(InstanceState, SocketAddr)> {
        let instance = self.instances.get_mut(generation)?;
        let address = instance.address?;
        let from = instance.enter(InstanceState::Active);
        let serves = (instance.release.clone(), instance.artifact.clone());
        if let Some((release, copy)) = self.served.replace(serves)
            && copy != instance.artifact
        {
            self.watcher.look_for_data(release, copy);
        }
        let upstream = instance.route(generation, address, &self.messages);
        self.router.promote(upstream);
        let liveness = self.settings.liveness.clone();
        let (user, protocol) = (instance.user, instance.protocol);
        let messages = self.messages.clone();
        instance.liveness = Timer::run(async move {
            let report = move |change| {
                let _ = messages.send(Message::Liveness(generation, change));
            };
            liveness.watch(address, protocol, user, report).await;
        });
        let settled = Message::Lifecycle(Event::Settled(generation));
        instance.settling = Timer::send_after(SETTLED, &self.messages, settled);
        Some((from, address))
    }

    pub(super) fn withdraw(&self) {
        if self.journal.status.phase == Phase::Stopping {
            tracing::info!(
                event = "route_withdrawn",
                "nothing is active: handoff shuts down"
            );
        } else {
            tracing::warn!(
                event = "route_withdrawn",
                "nothing is active: requests are held until an instance is ready"
            );
        }
        self.router.withdraw();
    }

    pub(super) fn keep(&mut self, generation: Generation) {
        self.change_state(generation, InstanceState::Standby, &Change::Kept);
        if let Some(instance) = self.instances.get_mut(generation)
            && let Some(address) = instance.address
        {
            let upstream = instance.route(generation, address, &self.messages);
            self.router.keep_standby(upstream);
        }
    }

    pub(super) fn drain(&mut self, generation: Generation) {
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        let from = instance.enter(InstanceState::Draining);
        let upstream = instance.upstream();
        let drained = Message::Drained(generation, instance.promotion());
        self.router.end_sessions(generation);
        let change = (Some(from), Some(InstanceState::Draining));
        let draining = Change::Draining {
            in_flight: instance.in_flight(),
        };
        self.journal
            .log_change(generation, &instance.release, change, &draining);
        let end = Instant::now() + self.settings.drain_timeout;
        let tunnel_timeout = self
            .settings
            .tunnel_drain_timeout
            .min(self.settings.drain_timeout);
        let tunnel_end = Instant::now() + tunnel_timeout;
        let router = Arc::clone(&self.router);
        let messages = self.messages.clone();
        instance.eviction = Timer::run(async move {
            router.close_tunnels(&upstream, tunnel_timeout);
            tokio::time::sleep_until(tunnel_end).await;
            router.evict(&upstream, Class::Tunnel);
            tokio::time::sleep_until(end).await;
            evict_all(&router, &upstream, generation, EvictionCause::DrainTimeout).await;
            let _ = messages.send(drained);
        });
    }

    pub(super) fn evict(&mut self, generation: Generation) {
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        if instance.state == InstanceState::Pinned {
            instance.enter(InstanceState::Draining);
            self.router.end_sessions(generation);
        }
        let upstream = instance.upstream();
        let drained = Message::Drained(generation, instance.promotion());
        let router = Arc::clone(&self.router);
        let messages = self.messages.clone();
        instance.eviction = Timer::run(async move {
            let cause = EvictionCause::TooManyDraining;
            evict_all(&router, &upstream, generation, cause).await;
            let _ = messages.send(drained);
        });
    }

    /// Records the end of a drain, unless the instance was promoted again since it began.
    pub(super) fn drained(&mut self, generation: Generation, promotion: u32) {
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        if instance.state != InstanceState::Draining || instance.promotion() != promotion {
            return;
        }
        instance.eviction = Timer::default();
        self.journal.record_drained(generation);
        self.on(Event::Drained(generation));
    }

    pub(super) fn stop(&mut self, generation: Generation) {
        let mut stop_by = Instant::now() + self.time_to_stop(generation);
        if let Some(deadline) = self.deadline {
            stop_by = stop_by.min(deadline);
        }
        self.router.release_standby(generation);
        let from = self.change_state(generation, InstanceState::Stopping, &Change::Stopping);
        if let Some(instance) = self.instances.get(generation) {
            instance.stop_by(stop_by);
        }
        if from == Some(InstanceState::Candidate) {
            self.journal.record_abandoned(generation);
        }
    }

    /// Kills what is left when the shutdown timeout is over.
    pub(super) fn kill_all(&mut self) {
        self.deadline = None;
        self.instances.kill_all();
    }

    /// Changes the state of an instance, and returns the one before.
    fn change_state(
        &mut self,
        generation: Generation,
        to: InstanceState,
        change: &Change,
    ) -> Option<InstanceState> {
        let instance = self.instances.get_mut(generation)?;
        let from = instance.enter(to);
        self.journal.log_change(
            generation,
            &instance.release,
            (Some(from), Some(to)),
            change,
        );
        Some(from)
    }
}

async fn evict_all(
    router: &Router,
    upstream: &Weak<Upstream>,
    generation: Generation,
    cause: EvictionCause,
) {
    let reason = match cause {
        EvictionCause::DrainTimeout => "the drain timeout is over",
        EvictionCause::TooManyDraining => "too many instances drain",
    };
    tracing::warn!(
        event = "requests_evicted",
        generation = generation.0,
        in_flight = upstream.strong_count(),
        reason,
        "requests to a draining instance are cut off"
    );
    router.evict(upstream, Class::Request);
    router.close_tunnels(upstream, EVICTION);
    tokio::time::sleep(EVICTION).await;
    router.evict(upstream, Class::Tunnel);
    tokio::time::sleep(EVICTION).await;
}
