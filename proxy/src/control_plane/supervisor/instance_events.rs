//! The handling of what instances report.

use std::path::PathBuf;

use super::instances::InstanceState;
use super::journal::{Change, FailureDetails};
use super::{Message, Supervisor};
use crate::control_plane::instance::{InstanceEvent, Note};
use crate::control_plane::lifecycle::{Event, RefusalCause};
use crate::control_plane::liveness::LivenessChange;
use crate::process::{Exit, Launch};
use crate::release::{Generation, ReleaseId};

impl<L: Launch> Supervisor<L> {
    pub(super) fn handle_instance_event(&mut self, generation: Generation, event: InstanceEvent) {
        match event {
            InstanceEvent::Ready {
                address,
                user,
                protocol,
                notes,
            } => {
                let mut texts = Vec::new();
                for note in notes {
                    let (event, text) = match note {
                        Note::Public(text) => ("port_public", text),
                        Note::Check(text) => ("ready_with_remarks", text),
                    };
                    tracing::info!(
                        event,
                        generation = generation.0,
                        "the instance is ready, and {text}"
                    );
                    texts.push(text);
                }
                if let Some(instance) = self.instances.get_mut(generation) {
                    instance.address = Some(address);
                    instance.user = user;
                    instance.protocol = protocol;
                    instance.note = (!texts.is_empty()).then(|| texts.join("; "));
                }
                self.journal.record_ready(generation);
                self.on(Event::Ready(generation));
            }
            InstanceEvent::NeverReady {
                reason,
                output,
                probe,
            } => {
                let details = FailureDetails {
                    output,
                    probe,
                    ..FailureDetails::default()
                };
                self.fail(generation, reason, details);
                self.on(Event::NeverReady(generation));
                self.fall_back();
            }
            InstanceEvent::PortSuspect(warning) => {
                tracing::warn!(
                    event = "port_suspect",
                    generation = generation.0,
                    %warning,
                    "the instance is ready, but its port is not as it should be"
                );
                if let Some(instance) = self.instances.get_mut(generation) {
                    instance.warning = Some(warning);
                }
            }
            InstanceEvent::MachineFault(reason) => {
                self.fail(generation, reason, FailureDetails::default());
                self.launch_failed(generation);
            }
            InstanceEvent::Exited { exit, probe } => self.exited(generation, exit, probe),
        }
    }

    fn exited(&mut self, generation: Generation, exit: Exit, probe: Option<String>) {
        let status = exit.status.clone();
        let moment = match self.instances.state_of(generation) {
            Some(InstanceState::Candidate) => "before it was ready",
            Some(InstanceState::Staged) => "while it was staged",
            Some(InstanceState::Active) => "while it was active",
            Some(InstanceState::Pinned) => "while clients had sessions there",
            Some(InstanceState::Draining) => "while it drained",
            Some(InstanceState::Standby) => "while it was on standby",
            Some(InstanceState::Stopping) | None => {
                self.remove(generation, status);
                self.on(Event::Exited(generation));
                return self.finish_end(generation);
            }
        };
        let is_candidate = self.instances.state_of(generation) == Some(InstanceState::Candidate);
        let hint = if is_candidate && exit.is_success {
            "; it looks like a daemon, or a command that ends by itself: run the server in the \
             foreground"
        } else {
            ""
        };
        let active = self.instances.active();
        let crashed = active.filter(|(active, _)| *active == generation);
        let in_flight = crashed.map_or(0, |(_, instance)| instance.unfinished());
        let requests = match in_flight {
            0 => String::new(),
            1 => ", with 1 request in flight".to_owned(),
            more => format!(", with {more} requests in flight"),
        };
        let details = FailureDetails {
            exit: Some(exit),
            probe,
            in_flight,
            ..FailureDetails::default()
        };
        self.record_failure(
            generation,
            format!("ended {moment} ({status}){requests}{hint}"),
            details,
        );
        self.remove(generation, status);
        self.on(Event::Exited(generation));
        self.fall_back();
        // Writing takes its time, and requests went to the instance until now: they come first.
        self.journal.remember_launch(generation, &self.releases);
        self.finish_end(generation);
    }

    /// Handles a launch that has failed for a reason outside the release.
    pub(super) fn launch_failed(&mut self, generation: Generation) {
        self.remove(generation, "the instance could not be started".to_owned());
        self.on(Event::LaunchFailed(generation));
    }

    /// Handles a launch that has failed through the fault of the release.
    pub(super) fn gone(&mut self, generation: Generation) {
        self.remove(generation, "the instance could not be started".to_owned());
        self.on(Event::Exited(generation));
        self.fall_back();
        self.finish_end(generation);
    }

    /// Requests an older artifact if nothing has served so far.
    fn fall_back(&self) {
        if !self.lifecycle.has_served() {
            self.watcher.fall_back(None);
        }
    }

    /// Requests an artifact that is older than the refused newest one, and newer than what serves.
    pub(super) fn look_between(&self) {
        let serving = self.serving_source();
        if serving.is_some() {
            self.watcher.fall_back(serving);
        }
    }

    /// Returns the path at which the release was deployed that serves, if it is known.
    pub(super) fn serving_source(&self) -> Option<PathBuf> {
        let (_, active) = self.instances.active()?;
        self.releases.source_of(&active.release)
    }

    /// Removes an instance that has no process, or none any more.
    pub(super) fn remove(&mut self, generation: Generation, reason: String) {
        self.router.release_standby(generation);
        if let Some(instance) = self.instances.remove(generation) {
            self.journal
                .record_exit(generation, instance.state, &reason);
            self.journal.cause.explain(reason);
            let change = (Some(instance.state), None);
            self.journal
                .log_change(generation, &instance.release, change, &Change::Gone);
        }
    }

    pub(super) fn finish_end(&mut self, generation: Generation) {
        self.router.end_sessions(generation);
        self.journal.record_end(generation, &self.releases);
        self.forget_unneeded();
    }

    /// Records a failure in the log, the status and the memory.
    pub(super) fn fail(&mut self, generation: Generation, reason: String, details: FailureDetails) {
        self.record_failure(generation, reason, details);
        self.journal.remember_launch(generation, &self.releases);
    }

    fn record_failure(&mut self, generation: Generation, reason: String, details: FailureDetails) {
        if let Some(instance) = self.instances.get(generation) {
            let release = instance.release.clone();
            let digest = self.releases.digest_of(&release);
            self.journal
                .record_failure(generation, release, digest, reason, details);
        }
    }

    pub(super) fn refuse(
        &mut self,
        generation: Option<Generation>,
        release: ReleaseId,
        cause: RefusalCause,
    ) {
        let reason = self.describe_refusal(generation, &release, cause);
        let launch = generation.map(|generation| generation.0);
        if cause.is_withdrawal() {
            tracing::info!(
                event = "release_refused",
                generation = launch,
                %release,
                %reason,
                "release refused: it is not tried again unless a retry is requested"
            );
        } else {
            // What a person has refused is not replaced by something else.
            self.look_between();
            tracing::error!(
                event = "release_refused",
                generation = launch,
                %release,
                %reason,
                "release refused: it is not tried again unless a retry is requested"
            );
        }
        let has_just_failed = matches!(
            cause,
            RefusalCause::LivenessLost | RefusalCause::TooManyErrors
        );
        if has_just_failed && let Some(generation) = generation {
            self.fail(generation, reason.clone(), FailureDetails::default());
        }
        let refusal = (cause, reason);
        self.journal
            .record_refusal(generation, release.clone(), refusal, &self.releases);
        if let Some(accepted) = self.releases.get(&release) {
            let (digest, shape) = (accepted.release.digest, &accepted.release.shape);
            let refused = accepted.refused_shape(cause);
            if !refused.is_empty() && refused != *shape {
                // The deployed files were repaired while it ran.
                self.journal.memory.forgive(digest);
                self.send(Message::Lifecycle(Event::RetryRequested(release)));
            }
        }
    }

    fn describe_refusal(
        &self,
        generation: Option<Generation>,
        release: &ReleaseId,
        cause: RefusalCause,
    ) -> String {
        let reason = match cause {
            RefusalCause::Failed => {
                let failure = self.journal.failure_of(release);
                failure.map(|failure| failure.reason.clone())
            }
            RefusalCause::LivenessLost => {
                let alarm = self.journal.status.alarm.as_ref();
                let reason = alarm.map_or("", |alarm| &alarm.reason);
                Some(format!(
                    "its liveness check failed during the trial: {reason}"
                ))
            }
            RefusalCause::TooManyErrors => generation.and_then(|generation| {
                let now = self.instances.error_share(generation);
                let trial = || self.trial.as_ref().map(|trial| trial.report(now));
                self.report_canary(generation).or_else(trial)
            }),
            RefusalCause::RolledBack => Some("a rollback was requested".to_owned()),
            RefusalCause::Aborted => Some("it was staged, and aborted".to_owned()),
            RefusalCause::Expired => {
                let canary = generation.and_then(|generation| self.report_canary(generation));
                let why = |canary| format!("its canary did not end in time: {canary}");
                let not_canary =
                    || "it was staged, and not promoted within --stage-timeout".to_owned();
                Some(canary.map_or_else(not_canary, why))
            }
        };
        reason.unwrap_or_else(|| "it failed".to_owned())
    }

    pub(super) fn handle_liveness(&mut self, generation: Generation, change: LivenessChange) {
        let Some(instance) = self.instances.get(generation) else {
            return;
        };
        if instance.state != InstanceState::Active {
            return;
        }
        let release = &instance.release;
        match change {
            LivenessChange::Lost(reason) => {
                tracing::error!(
                    event = "liveness_lost",
                    generation = generation.0,
                    %release,
                    %reason,
                    "the active instance fails its liveness check"
                );
                self.journal.raise_alarm(generation, reason);
                self.on(Event::LivenessLost(generation));
            }
            LivenessChange::Recovered => {
                tracing::info!(
                    event = "liveness_recovered",
                    generation = generation.0,
                    %release,
                    "the active instance passes its liveness check again"
                );
                self.journal.status.alarm = None;
                self.on(Event::LivenessRecovered(generation));
            }
        }
    }
}
