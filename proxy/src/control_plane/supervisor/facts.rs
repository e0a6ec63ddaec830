//! What the supervisor is told of its instances, and what the status, the memory and the lifecycle
//! make of it.

use super::super::instance::Fact;
use super::super::lifecycle::{Event, Verdict};
use super::super::live::Change;
use super::{Message, State, Supervisor, Timer};
use crate::deployment::status::Refusal;
use crate::deployment::status::{Alarm, Failure, Outcome, UnixMillis};
use crate::process::Launch;
use crate::release::{Generation, ReleaseId};

/// Of what a refused release wrote, so many lines are remembered.
const LAST_LINES: usize = 5;

impl<L: Launch> Supervisor<L> {
    pub(super) fn fact(&mut self, generation: Generation, fact: Fact) {
        match fact {
            Fact::Ready { address, warning } => {
                if let Some(warning) = &warning {
                    tracing::warn!(%generation, %warning, "ready, but");
                }
                if let Some(instance) = self.instances.get_mut(&generation) {
                    instance.address = Some(address);
                    instance.warning = warning;
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
                    Some(State::Standby) => Some("while it was on standby"),
                    Some(State::Stopping) | None => None,
                };
                match reason {
                    Some(when) => {
                        let ended = exit.status.clone();
                        let reason = format!("ended {when} ({ended})");
                        self.tell_of_failure(generation, reason, |failure| {
                            failure.exit = Some(exit.status);
                            failure.output = exit.output;
                            failure.probe = probe;
                        });
                        self.gone(generation, ended, true);
                    }
                    None => self.gone(generation, exit.status, false),
                }
            }
        }
    }

    /// There is no process, or none any more.
    pub(super) fn remove(&mut self, generation: Generation, how: String) {
        if let Some(instance) = self.instances.remove(&generation) {
            self.because = how;
            let change = (Some(instance.state), None);
            self.changed(generation, &instance.release, change, "gone");
        }
    }

    /// Its processes are gone; nobody asked for it if it `has_failed`.
    pub(super) fn gone(&mut self, generation: Generation, how: String, has_failed: bool) {
        self.remove(generation, how);
        self.on(Event::Exited(generation));
        if has_failed {
            // Only now: until a moment ago requests went to it, and writing takes its time.
            self.remember(generation);
        }
        if let Some(handoff) = self.status.superseding(generation) {
            let now = UnixMillis::now();
            handoff.drained_ms.get_or_insert(now);
            handoff.stopped_ms.get_or_insert(now);
            let successor = handoff.generation;
            self.remember(successor);
        }
        self.forget_unneeded();
    }

    pub(super) fn drained(&mut self, generation: Generation, promotion: u32) {
        let Some(instance) = self.instances.get_mut(&generation) else {
            return;
        };
        if instance.state != State::Draining || instance.promotions != promotion {
            return;
        }
        instance.eviction = Timer::default();
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
        self.tell_of_failure(generation, reason, more);
        self.remember(generation);
    }

    fn tell_of_failure(
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

    /// What the lifecycle refuses is refused by all sidecars of this machine, and after a restart.
    pub(super) fn refuse(
        &mut self,
        generation: Option<Generation>,
        release: ReleaseId,
        verdict: Verdict,
    ) {
        let failure = self.status.last_failure.clone();
        let failure = failure.filter(|failure| failure.release == release);
        let failure = failure.filter(|_| verdict == Verdict::Failed);
        let reason = match verdict {
            Verdict::Failed => failure.as_ref().map(|failure| failure.reason.clone()),
            Verdict::LiveCheckFell => {
                let alarm = self
                    .status
                    .alarm
                    .as_ref()
                    .map(|alarm| alarm.reason.as_str());
                let reason = alarm.unwrap_or_default();
                Some(format!(
                    "its live check fell while it was on trial: {reason}"
                ))
            }
            Verdict::TooManyErrors => self.trial_report(generation),
            Verdict::RolledBack => Some("somebody asked to go back".to_owned()),
        };
        let reason = reason.unwrap_or_else(|| "it failed".to_owned());
        let launch = generation.map(|generation| generation.0);
        tracing::error!(generation = launch, %release, %reason, "refused");
        let is_new = matches!(verdict, Verdict::LiveCheckFell | Verdict::TooManyErrors);
        if is_new && let Some(generation) = generation {
            self.failed(generation, reason.clone(), |_| {});
        }
        if let Some(generation) = generation {
            if let Some(handoff) = self.status.handoff(generation) {
                handoff.outcome = Outcome::Refused;
                handoff.reason.get_or_insert_with(|| reason.clone());
            }
            self.remember(generation);
        }
        if let Some(accepted) = self.releases.get(&release) {
            let mut refusal = Refusal {
                digest: accepted.release.digest.to_string(),
                release,
                at_ms: UnixMillis::now(),
                reason,
                exit: None,
                output: Vec::new(),
                probe: None,
            };
            if let Some(failure) = failure {
                let lines = failure.output.len().saturating_sub(LAST_LINES);
                refusal.exit = failure.exit;
                refusal.output = failure.output.into_iter().skip(lines).collect();
                refusal.probe = failure.probe;
            }
            self.memory.refuse(refusal);
        }
    }

    /// Has the memory know of a launch what the status does.
    pub(super) fn remember(&mut self, generation: Generation) {
        if let Some(handoff) = self.status.handoff(generation).cloned()
            && let Some(accepted) = self.releases.get(&handoff.release)
        {
            self.memory.launched(&accepted.release, handoff);
        }
    }

    pub(super) fn live(&mut self, generation: Generation, change: Change) {
        let state = self
            .instances
            .get(&generation)
            .map(|instance| instance.state);
        if state != Some(State::Active) {
            return;
        }
        match change {
            Change::Fell(reason) => {
                tracing::error!(%generation, %reason, "its live check fell");
                self.status.alarm = Some(Alarm {
                    generation,
                    since_ms: UnixMillis::now(),
                    reason,
                });
                self.on(Event::LiveFell(generation));
            }
            Change::Rose => {
                tracing::info!(%generation, "its live check rose");
                self.status.alarm = None;
                self.on(Event::LiveRose(generation));
            }
        }
    }
}
