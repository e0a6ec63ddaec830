//! The launch of an instance, and the causes of its failure.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::instances::{Instance, InstanceState};
use super::journal::{Change, FailureDetails};
use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::environment::launch_variables;
use crate::control_plane::instance::{self, InstanceConfig};
use crate::control_plane::lifecycle::{Event, Purpose};
use crate::control_plane::step::{StepFailure, Verification};
use crate::deployment::status::LaunchCause;
use crate::os::ports;
use crate::os::thread::within;
use crate::process::template::Values;
use crate::process::{Launch, LaunchSpec, Process as _, ProcessRole};
use crate::release::{Generation, Release, ReleaseId};
use crate::router::SessionToken;

/// Address at which apps listen.
const HOST: &str = "127.0.0.1";
/// Maximum time for the files of a release to be looked at.
const LOOK: Duration = Duration::from_secs(2);
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);
/// Maximum share of a back-off that is added to it at random.
const JITTER: f64 = 0.25;

/// A failed launch.
struct LaunchFailure {
    reason: String,
    /// Report of the failure to the supervisor.
    message: Message,
}

/// A process that has been started, and what it is checked by.
struct StartedProcess<P> {
    process: P,
    port: u16,
    /// Ports of `--port-name`.
    further_ports: Vec<u16>,
    verification: Option<Verification>,
}

impl<L: Launch> Supervisor<L> {
    pub(super) fn launch(&mut self, generation: Generation, id: &ReleaseId, purpose: Purpose) {
        let Some(accepted) = self.releases.get_mut(id) else {
            // Every release that the lifecycle may launch is kept while it is needed.
            tracing::error!(
                event = "release_unknown",
                generation = generation.0,
                release = %id,
                "cannot launch an instance: its release is not known"
            );
            return self.send(Message::LaunchFailed(generation));
        };
        let are_counted =
            self.settings.bake_max_errors.is_some() || self.settings.sessions.is_some();
        let answers = are_counted.then(Arc::default);
        accepted.launched_shape = Some(accepted.release.shape.clone());
        let accepted = accepted.clone();
        let instance = Instance::new(
            &accepted.release,
            self.settings.environment.clone(),
            answers,
            self.settings.sessions.map(|_| SessionToken::random()),
        );
        self.instances.insert(generation, instance);
        let cause = match purpose {
            Purpose::Deploy => self.journal.cause_of_deploy(&accepted),
            Purpose::Restart if self.has_other_variables() => LaunchCause::Configuration,
            Purpose::Restart => LaunchCause::Restart,
            Purpose::Rescue => LaunchCause::LiveCheck,
            Purpose::Rollback => LaunchCause::Rollback,
        };
        self.journal.record_launch(&accepted, generation, cause);
        if !self.prepare(generation, &accepted.release, purpose) {
            self.start(generation, &accepted.release, purpose);
        }
    }

    /// Starts the process of a candidate.
    pub(super) fn start(&mut self, generation: Generation, release: &Release, purpose: Purpose) {
        let id = &release.id;
        let change = (None, Some(InstanceState::Candidate));
        let started = self.start_process(generation, release, purpose);
        let StartedProcess {
            process,
            port,
            further_ports,
            verification,
        } = match started {
            Ok(started) => started,
            Err(LaunchFailure { reason, message }) => {
                self.journal
                    .log_change(generation, id, change, &Change::NotLaunched);
                self.fail(generation, reason, FailureDetails::default());
                return self.send(message);
            }
        };
        let pid = process.pid();
        let launched = Change::Launched { pid, port };
        self.journal.log_change(generation, id, change, &launched);
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        instance.pid = Some(pid);
        instance.state_file = process.state_file();
        let (stop_time, last_probe) = (instance.stop_time(), instance.last_probe());
        let mut readiness = self.settings.readiness.clone();
        let active = self.instances.active();
        readiness.probe.active = active.and_then(|(_, active)| active.address);
        let config = InstanceConfig {
            port,
            further_ports,
            readiness,
            verification,
            liveness: (purpose == Purpose::Rescue).then(|| self.settings.liveness.clone()),
            start_timeout: if self.lifecycle.has_served() {
                self.settings.deploy_timeout
            } else {
                self.settings.start_timeout
            },
            stop_timeout: self.settings.stop_timeout,
            last_probe,
        };
        let messages = self.messages.clone();
        let report = move |event| {
            // The supervisor outlives every instance.
            let _ = messages.send(Message::Instance(generation, event));
        };
        tokio::task::spawn_local(instance::follow(process, config, stop_time, report));
    }

    /// Plans the launch after the back-off for this number of failures in a row.
    pub(super) fn retry_after(&mut self, failures: u32) {
        let delay = back_off(failures);
        tracing::info!(
            event = "launch_planned",
            delay = %humantime::format_duration(Duration::from_millis(delay.as_millis() as u64)),
            failures,
            "an instance is launched after the back-off"
        );
        self.retry = self.send_after(delay, Message::Lifecycle(Event::RetryDue));
    }

    /// Ends the back-off of a launch whose private copy was missing and is there again.
    pub(super) fn restored(&mut self, release: Release) {
        tracing::info!(
            event = "copy_restored",
            release = %release.id,
            "the private copy of a release was made again"
        );
        if let Some(accepted) = self.releases.get_mut(&release.id) {
            accepted.release = release;
            self.retry = Timer::default();
            self.on(Event::RetryDue);
        }
    }

    fn start_process(
        &self,
        generation: Generation,
        release: &Release,
        purpose: Purpose,
    ) -> Result<StartedProcess<L::Process>, LaunchFailure> {
        let machines_fault = |reason: String| LaunchFailure {
            reason,
            message: Message::LaunchFailed(generation),
        };
        let releases_fault = |reason: String| LaunchFailure {
            reason,
            message: Message::Gone(generation),
        };
        // All that a launch needs may be on a share, and so may the place of the deploy, which is only
        // to be compared: this task goes on if one does not answer.
        let needed = release.clone();
        let is_there = within(LOOK, move || {
            // The launch tells what is wrong with it.
            let _ = needed.dir.metadata();
            needed.artifact.exists()
        });
        let Some(is_there) = is_there else {
            return Err(machines_fault(format!(
                "{} does not answer: it seems to be on a share that is away",
                release.dir.display()
            )));
        };
        let deployed = self.releases.source_of(&release.id);
        let misses_file = |deployed: PathBuf| {
            let (command, release) = (self.settings.command.clone(), release.clone());
            within(LOOK, move || command.misses_file(&release, &deployed)) == Some(true)
        };
        if !is_there || deployed.clone().is_some_and(misses_file) {
            // A program that cleans caches has removed the copy: the release is as good as before.
            self.watcher.restore(release.clone(), deployed);
            let artifact = release.artifact.display();
            return Err(machines_fault(format!(
                "its copy {artifact} is gone, or a part of it"
            )));
        }
        let (port, ports) = choose_ports(&self.settings.port_names)
            .map_err(|error| machines_fault(format!("no free port: {error}")))?;
        let values = Values {
            release,
            port,
            ports: &ports,
            host: HOST,
            shared: &self.settings.shared,
        };
        let (program, args) = self
            .settings
            .command
            .expand(values)
            .map_err(|error| releases_fault(error.to_string()))?;
        let verification = self
            .verification(generation, values, purpose)
            .map_err(|failure| releases_fault(failure.reason))?;
        let spec = LaunchSpec {
            generation,
            role: ProcessRole::Instance,
            release: release.id.clone(),
            program,
            args,
            env: launch_variables(&self.settings.environment, values),
            workdir: release.dir.clone(),
            stop: self.settings.stop.clone(),
            port,
        };
        let process = self.launcher.launch(spec).map_err(|error| {
            if error.is_releases_fault {
                releases_fault(error.to_string())
            } else {
                machines_fault(error.to_string())
            }
        })?;
        Ok(StartedProcess {
            process,
            port,
            further_ports: ports.into_iter().map(|(_, port)| port).collect(),
            verification,
        })
    }

    /// Returns the operator's check of an instance. None where it would delay what has proved
    /// itself: nothing serves and the release has served before, or an operator goes back to it.
    fn verification(
        &self,
        generation: Generation,
        values: Values<'_>,
        purpose: Purpose,
    ) -> Result<Option<Verification>, StepFailure> {
        let active = self.instances.active();
        let active = active.and_then(|(_, instance)| instance.address);
        let is_due = match purpose {
            Purpose::Deploy => active.is_some() || !self.lifecycle.is_good(&values.release.id),
            Purpose::Restart => true,
            Purpose::Rescue | Purpose::Rollback => false,
        };
        let Some(step) = self.settings.verify.clone().filter(|_| is_due) else {
            return Ok(None);
        };
        let env = launch_variables(&self.settings.environment, values);
        let spec = step.spec(generation, values, env)?;
        let launcher = Rc::clone(&self.launcher);
        Ok(Some(Verification::new(step, launcher, spec, active)))
    }
}

/// Returns the delay before a launch. It doubles with each failure; the first restart is
/// immediate. A random part keeps sidecars that share a resource from retrying all at once.
fn back_off(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let base = FIRST_BACK_OFF
        .saturating_mul(1 << (failures - 1).min(16))
        .min(LAST_BACK_OFF);
    base + base.mul_f64(fastrand::f64() * JITTER)
}

/// Chooses a port for requests and one for each name.
fn choose_ports(names: &[String]) -> std::io::Result<(u16, Vec<(String, u16)>)> {
    let mut ports = ports::choose(1 + names.len())?;
    let port = ports.remove(0);
    Ok((port, names.iter().cloned().zip(ports).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer() {
        assert_eq!(back_off(0), Duration::ZERO);
        for (failures, least) in [
            (1, FIRST_BACK_OFF),
            (2, FIRST_BACK_OFF * 2),
            (99, LAST_BACK_OFF),
        ] {
            let delay = back_off(failures);
            let most = least + least.mul_f64(JITTER);
            assert!((least..=most).contains(&delay), "{failures}: {delay:?}");
        }
    }

    #[test]
    fn each_name_has_a_port_of_its_own() {
        let (port, named) = choose_ports(&["admin".to_owned(), "metrics".to_owned()]).unwrap();
        let ports: std::collections::BTreeSet<u16> =
            named.iter().map(|(_, port)| *port).chain([port]).collect();
        assert_eq!(ports.len(), 3);
        assert_eq!(named[0].0, "admin");
    }
}
