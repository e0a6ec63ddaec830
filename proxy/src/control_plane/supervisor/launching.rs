//! Starting an instance, and what may keep it from starting.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;

use super::super::environment;
use super::super::instance::{self, Care, LastProbe};
use super::super::status::UnixMillis;
use super::{Instance, Message, State, Supervisor};
use crate::process::template::Values;
use crate::process::{Launch, LaunchSpec, Process as _};
use crate::release::{Generation, Release, ReleaseId};

/// Where the app listens.
const HOST: &str = "127.0.0.1";
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);

/// Why there is no process, and what the supervisor has to be told.
struct NotStarted {
    reason: String,
    message: Message,
}

impl<L: Launch> Supervisor<L> {
    pub(super) fn launch(&mut self, generation: Generation, id: &ReleaseId) {
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
        tracing::info!(%generation, release = %id, pid, port, to = "candidate", "launched");
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
}

/// Doubles with each failure; the first restart is immediate.
pub(super) fn back_off(failures: u32) -> Duration {
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
