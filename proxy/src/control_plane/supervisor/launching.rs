//! Starting an instance, and what may keep it from starting.

use std::hash::{BuildHasher as _, RandomState};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::super::environment;
use super::super::instance::{self, Care, LastProbe};
use super::super::lifecycle::{Event, Purpose};
use super::{Instance, Message, State, Supervisor, Timer};
use crate::deployment::status::UnixMillis;
use crate::process::template::Values;
use crate::process::{Launch, LaunchSpec, Process as _};
use crate::release::{Generation, Release, ReleaseId};

/// Where the app listens.
const HOST: &str = "127.0.0.1";
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);
/// Up to this share of a pause is added to it.
const JITTER: f64 = 0.25;

/// Why there is no process, and what the supervisor has to be told.
struct NotStarted {
    reason: String,
    message: Message,
}

impl<L: Launch> Supervisor<L> {
    pub(super) fn launch(&mut self, generation: Generation, id: &ReleaseId, purpose: Purpose) {
        let Some(accepted) = self.releases.get(id) else {
            // Every release that the lifecycle may ask for is kept while it is needed.
            tracing::error!(%generation, release = %id, "its copy is gone");
            return self.tell(Message::LaunchFailed(generation));
        };
        let handoff = self.status.launched(&accepted.release, generation);
        handoff.detected_ms = Some(accepted.detected.into());
        handoff.copied_ms = Some(accepted.copied.into());
        let (stop, stop_by) = watch::channel(None);
        let last_probe = LastProbe::default();
        let instance = Instance {
            release: id.clone(),
            state: State::Candidate,
            since: UnixMillis::now(),
            pid: None,
            address: None,
            stop,
            upstream: Weak::new(),
            last_probe: Rc::clone(&last_probe),
            promotions: 0,
            eviction: Timer::default(),
            live: Timer::default(),
            settled: Timer::default(),
            answers: self.settings.bake_max_errors.map(|_| Arc::default()),
            warning: None,
            environment: self.settings.environment.clone(),
        };
        self.instances.insert(generation, instance);
        let release = accepted.release.clone();
        // Should this be the end of this sidecar, the next one knows.
        self.remember(generation);
        let process = self.start(generation, &release);
        let (process, port) = match process {
            Ok(started) => started,
            Err(NotStarted { reason, message }) => {
                let change = (None, Some(State::Candidate));
                self.changed(generation, id, change, "not launched");
                self.failed(generation, reason, |_| {});
                return self.tell(message);
            }
        };
        let pid = process.pid();
        let change = (None, Some(State::Candidate));
        let launched = format!("launched as process {pid} for port {port}");
        self.changed(generation, id, change, &launched);
        if let Some(instance) = self.instances.get_mut(&generation) {
            instance.pid = Some(pid);
        }
        let start_timeout = match self.lifecycle.has_served() {
            true => self.settings.deploy_timeout,
            false => self.settings.start_timeout,
        };
        let care = Care {
            port,
            readiness: self.settings.readiness.clone(),
            live: (purpose == Purpose::Rescue).then(|| self.settings.live.clone()),
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

    /// Its private copy is there again: what waited for it need not any more.
    pub(super) fn restored(&mut self, release: Release) {
        tracing::info!(release = %release.id, "its private copy was made again");
        if let Some(accepted) = self.releases.get_mut(&release.id) {
            accepted.release = release;
            self.retry = Timer::default();
            self.on(Event::RetryDue);
        }
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
        if !release.artifact.exists() {
            // Whatever cleans caches has been there: the release is as good as before.
            let deployed = self.releases.get(&release.id);
            let deployed = deployed.and_then(|accepted| accepted.source.clone());
            self.watcher.restore(release.clone(), deployed);
            let artifact = &release.artifact;
            return Err(machines_fault(format!("its copy {artifact:?} is gone")));
        }
        let names = &self.settings.port_names;
        let (port, ports) =
            free_ports(names).map_err(|error| machines_fault(format!("no free port: {error}")))?;
        let values = Values {
            release,
            port,
            ports: &ports,
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
            env: environment::of(&self.settings.environment, values),
            workdir: release.dir.clone(),
            stop: self.settings.stop.clone(),
            port,
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
}

/// Doubles with each failure; the first restart is immediate. Not quite the same for each sidecar:
/// what they share shall not be asked by all of them at once.
pub(super) fn back_off(failures: u32) -> Duration {
    let base = match failures {
        0 => return Duration::ZERO,
        _ => FIRST_BACK_OFF
            .saturating_mul(1 << (failures - 1).min(16))
            .min(LAST_BACK_OFF),
    };
    // The standard library's source of randomness, without a crate for it.
    let random = RandomState::new().hash_one(failures) >> 32;
    base + base.mul_f64(random as f64 / 2f64.powi(32) * JITTER)
}

/// Ports that nobody listens on now, one for requests and one for each name. Another program may
/// take one before the app does; then the launch is tried again with others.
fn free_ports(names: &[String]) -> std::io::Result<(u16, Vec<(String, u16)>)> {
    let listen = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All are held until the last is found: no two are the same.
    let listener = listen()?;
    let named: Vec<_> = names.iter().map(|_| listen()).collect::<Result<_, _>>()?;
    let ports = names.iter().zip(&named).map(|(name, listener)| {
        let port = listener.local_addr()?.port();
        Ok((name.clone(), port))
    });
    Ok((
        listener.local_addr()?.port(),
        ports.collect::<std::io::Result<_>>()?,
    ))
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
        let (port, named) = free_ports(&["admin".to_owned(), "metrics".to_owned()]).unwrap();
        let ports: std::collections::BTreeSet<u16> =
            named.iter().map(|(_, port)| *port).chain([port]).collect();
        assert_eq!(ports.len(), 3);
        assert_eq!(named[0].0, "admin");
    }
}
