//! What the supervisor is told of its instances, and what the status and the lifecycle make of it.

use super::super::instance::Fact;
use super::super::lifecycle::Event;
use super::super::status::{Failure, Outcome, UnixMillis};
use super::{Message, State, Supervisor};
use crate::process::Launch;
use crate::release::Generation;

impl<L: Launch> Supervisor<L> {
    pub(super) fn fact(&mut self, generation: Generation, fact: Fact) {
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
    pub(super) fn gone(&mut self, generation: Generation) {
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

    pub(super) fn drained(&mut self, generation: Generation, promotion: u32) {
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

    pub(super) fn failed(
        &mut self,
        generation: Generation,
        reason: String,
        more: impl FnOnce(&mut Failure),
    ) {
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
}
