//! Moving the requests from one instance to the next, and letting go of the one before.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::super::lifecycle::Event;
use super::{Message, Settings, State, Supervisor, Timer};
use crate::deployment::status::{Outcome, Rollback, UnixMillis};
use crate::process::Launch;
use crate::release::Generation;
use crate::router::{Class, Router, Upstream};

/// Who has served for so long does not fail rapidly any more.
const SETTLED: Duration = Duration::from_secs(60);
/// For evicted tunnels to close; and again for what was cut to be noticed, which takes for ever where
/// a client reads no more.
const EVICTION: Duration = Duration::from_secs(3);

impl<L: Launch> Supervisor<L> {
    pub(super) fn promote(&mut self, generation: Generation) {
        let superseded = self.router.routed();
        let live = self.settings.live.clone();
        let messages = self.messages.clone();
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        let Some(address) = instance.address else {
            return;
        };
        let from = instance.state;
        instance.become_(State::Active);
        let upstream = instance
            .upstream
            .upgrade()
            .filter(|upstream| !upstream.evicted());
        let upstream = match upstream {
            // Routed to again while it still drains.
            Some(upstream) => upstream,
            None => {
                instance.promotions += 1;
                let promotion = instance.promotions;
                let answers = instance.answers.clone();
                let (upstream, drain) = Upstream::counting(generation, address, answers);
                instance.upstream = drain.upstream();
                let messages = messages.clone();
                tokio::task::spawn_local(async move {
                    drain.wait().await;
                    let _ = messages.send(Message::Drained(generation, promotion));
                });
                upstream
            }
        };
        self.router.promote(upstream);
        let took = self.verdict.elapsed();
        let release = instance.release.clone();
        let change = (Some(from), Some(State::Active));
        let watching = tokio::task::spawn_local(async move {
            let report = move |change| {
                let _ = messages.send(Message::Live(generation, change));
            };
            live.watch(address, report).await;
        });
        instance.live = Timer(Some(watching.abort_handle()));
        let promoted = format!("promoted at {address} in {took:?}");
        self.changed(generation, &release, change, &promoted);
        if let Some(handoff) = self.status.handoff(generation) {
            handoff.outcome = Outcome::Promoted;
            handoff.promoted_ms.get_or_insert_with(UnixMillis::now);
            if from == State::Candidate {
                handoff.superseded_generation = superseded;
            }
        }
        if from != State::Candidate
            && let Some(from) = superseded
        {
            self.status.last_rollback = Some(Rollback {
                from,
                to: generation,
                at_ms: UnixMillis::now(),
                took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            });
        }
        if let (Some(handoff), Some(accepted)) = (
            self.status.handoff(generation).cloned(),
            self.releases.get(&release),
        ) {
            self.memory.promoted(&accepted.release, handoff);
        }
        let settled = Message::Happened(Event::Settled(generation));
        let settled = self.later(SETTLED, settled);
        if let Some(instance) = self.instances.get_mut(&generation) {
            instance.settled = settled;
        }
    }

    pub(super) fn keep(&mut self, generation: Generation) {
        if let Some(instance) = self.instances.get_mut(&generation) {
            let change = (Some(instance.state), Some(State::Standby));
            instance.become_(State::Standby);
            let release = instance.release.clone();
            self.changed(generation, &release, change, "kept on standby");
        }
    }

    pub(super) fn drain(&mut self, generation: Generation) {
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
        let change = (Some(instance.state), Some(State::Draining));
        instance.become_(State::Draining);
        let draining = format!("drains, with {} in flight", instance.in_flight());
        let release = instance.release.clone();
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
        instance.eviction = Timer(Some(eviction.abort_handle()));
        self.changed(generation, &release, change, &draining);
    }

    pub(super) fn evict(&mut self, generation: Generation) {
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
        instance.eviction = Timer(Some(evicting.abort_handle()));
    }

    pub(super) fn stop(&mut self, generation: Generation) {
        let mut stop_by = Instant::now() + self.settings.stop_timeout;
        if let Some(deadline) = self.deadline {
            stop_by = stop_by.min(deadline);
        }
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        let from = instance.state;
        instance.become_(State::Stopping);
        instance.stop.send_replace(Some(stop_by));
        let release = instance.release.clone();
        let change = (Some(from), Some(State::Stopping));
        self.changed(generation, &release, change, "asked to stop");
        if from == State::Candidate
            && let Some(handoff) = self.status.handoff(generation)
            && handoff.outcome == Outcome::Starting
        {
            handoff.outcome = Outcome::Abandoned;
        }
    }

    /// The shutdown has lasted for as long as it may.
    pub(super) fn out_of_time(&mut self) {
        self.deadline = None;
        for (generation, instance) in &self.instances {
            tracing::warn!(%generation, "killed: the shutdown timeout is over");
            instance.stop.send_replace(Some(Instant::now()));
        }
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
