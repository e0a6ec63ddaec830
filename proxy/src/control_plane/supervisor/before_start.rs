//! The command before the first launch of a release, as the supervisor sees it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::instances::InstanceState;
use super::journal::FailureDetails;
use super::{Message, Supervisor};
use crate::control_plane::before_start::BeforeStart;
use crate::control_plane::environment::portless_variables;
use crate::control_plane::lifecycle::{Event, Purpose};
use crate::control_plane::step::StepFailure;
use crate::process::Launch;
use crate::process::template::Values;
use crate::release::{Generation, Release};

impl<L: Launch> Supervisor<L> {
    /// Runs `--before-start`, or waits for its run elsewhere, and returns true; false if the release
    /// needs none. What has served before has been prepared.
    pub(super) fn prepare(
        &mut self,
        generation: Generation,
        release: &Release,
        purpose: Purpose,
    ) -> bool {
        let is_due = purpose == Purpose::Deploy && !self.lifecycle.is_good(&release.id);
        let Some(settings) = self.settings.before_start.clone().filter(|_| is_due) else {
            return false;
        };
        let Some(instance) = self.instances.get_mut(generation) else {
            return false;
        };
        instance.is_preparing = true;
        let values = Values {
            release,
            port: 0,
            ports: &[],
            host: "",
            shared: &self.settings.shared,
        };
        let env = portless_variables(&self.settings.environment, values);
        let before_start = settings.step.spec(generation, values, env);
        let before_start = before_start.map(|spec| BeforeStart {
            settings,
            launcher: Rc::clone(&self.launcher),
            spec,
            digest: release.digest,
            sidecar: Arc::clone(&self.journal.status.sidecar),
            progress: instance.last_probe(),
            stop_time: instance.stop_time(),
        });
        let messages = self.messages.clone();
        tokio::task::spawn_local(async move {
            let result = match before_start {
                Ok(before_start) => before_start.run().await,
                Err(failure) => Err(failure),
            };
            let _ = messages.send(Message::Prepared(generation, purpose, result));
        });
        true
    }

    /// Goes on with a launch after `--before-start`.
    pub(super) fn prepared(
        &mut self,
        generation: Generation,
        purpose: Purpose,
        result: Result<(), StepFailure>,
    ) {
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        instance.is_preparing = false;
        let is_wanted = instance.state == InstanceState::Candidate;
        let accepted = self.releases.get(&instance.release);
        match (result, accepted.cloned()) {
            (Ok(()), Some(accepted)) if is_wanted => {
                self.start(generation, &accepted.release, purpose);
            }
            (Err(failure), _) if is_wanted => {
                let details = FailureDetails {
                    output: failure.output,
                    ..FailureDetails::default()
                };
                self.fail(generation, failure.reason, details);
                if failure.is_releases_fault {
                    self.gone(generation);
                } else {
                    self.launch_failed(generation);
                }
            }
            (Ok(()) | Err(_), _) => {
                self.remove(generation, "the release is not wanted any more".to_owned());
                self.on(Event::Exited(generation));
                self.finish_end(generation);
            }
        }
    }

    /// Returns the time that an instance has to stop. A command that changes what all releases share
    /// is not cut short because a newer release makes it pointless.
    pub(super) fn time_to_stop(&self, generation: Generation) -> Duration {
        let instance = self.instances.get(generation);
        let is_preparing = instance.is_some_and(|instance| instance.is_preparing);
        match &self.settings.before_start {
            Some(settings) if is_preparing => settings.step.timeout,
            Some(_) | None => self.settings.stop_timeout,
        }
    }
}
