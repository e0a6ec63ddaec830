//! Commands that come through `desired.json`.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::lifecycle::Event;
use crate::deployment::desired::{ControlCommand, Desired, MaintenanceCommand};
use crate::deployment::rollout::Rollout;
use crate::deployment::status::{MaintenanceStatus, Paused, UnixMillis};
use crate::process::Launch;
use crate::release::{Digest, ReleaseId};
use crate::router::Maintenance;

impl<L: Launch> Supervisor<L> {
    pub(super) fn desired(&mut self, desired: Desired, at_start: bool) {
        let before = (!at_start).then(|| self.desired.take().unwrap_or_default());
        let (commands, problem) = desired.commands_since(before.as_ref(), SystemTime::now());
        self.journal.status.desired_problem = problem;
        self.journal.status.rollout = desired.rollout.as_ref().map(Rollout::status);
        for command in commands {
            tracing::info!(
                event = "command_received",
                %command,
                serial = desired.serial,
                "a command was received through desired.json"
            );
            self.execute(command);
        }
        self.journal.status.desired_serial = Some(desired.serial);
        if desired.stage.is_none() {
            self.to_stage = None;
        }
        self.desired = Some(desired);
    }

    fn execute(&mut self, command: ControlCommand) {
        match command {
            ControlCommand::Retry(digest) => self.retry(digest),
            ControlCommand::Stage(stage) => self.stage_later(stage),
            ControlCommand::Promote => self.promote_staged(),
            ControlCommand::Abort => self.abort_staged(),
            ControlCommand::Rollback(None) => {
                self.journal.status.rollback_to = self.lifecycle.before_the_latest();
                self.on(Event::RollbackRequested(None));
            }
            ControlCommand::Rollback(Some(name)) => self.roll_back_to(&name),
            ControlCommand::Restart => self.on(Event::RestartRequested),
            ControlCommand::Pause(period) => self.pause_for(period),
            ControlCommand::Resume => self.on(Event::PauseEnded),
            ControlCommand::BeginMaintenance(command) => self.begin_maintenance(command),
            ControlCommand::EndMaintenance => self.end_maintenance(),
            ControlCommand::Upgrade(command) => self.upgrade(command),
        }
    }

    /// Forgives a release. The one that is deployed may have been mended since it was copied, so
    /// another copy is made before it is launched.
    fn retry(&mut self, digest: Digest) {
        self.journal.memory.forgive(digest);
        let id = self.releases.with_digest(digest);
        if id.is_some_and(|id| self.lifecycle.wants(&id)) && self.watcher.look_again() {
            self.to_retry = Some(digest);
        } else {
            self.retry_now(digest);
        }
    }

    /// Forgives a release, and launches it if it is the one that is deployed.
    pub(super) fn retry_now(&mut self, digest: Digest) {
        self.journal.memory.forgive(digest);
        if let Some(id) = self.releases.with_digest(digest) {
            self.announce_stage(&id, digest);
            self.on(Event::RetryRequested(id));
        }
    }

    fn roll_back_to(&mut self, name: &str) {
        let Some(id) = self.releases.named(name, self.lifecycle.earlier()) else {
            return self.reject_command(format!(
                "cannot go back to {name:?}, which is none of the last releases that served; {}",
                self.list_earlier()
            ));
        };
        if let Some(accepted) = self.releases.get(&id) {
            self.journal.memory.forgive(accepted.release.digest);
        }
        self.journal.status.rollback_to = Some(id.clone());
        self.on(Event::RollbackRequested(Some(id)));
    }

    fn pause_for(&mut self, period: Duration) {
        self.on(Event::PauseRequested);
        if !self.lifecycle.is_paused() {
            return;
        }
        self.pause = self.send_after(period, Message::Lifecycle(Event::PauseEnded));
        self.journal.status.paused = Some(Paused {
            until_ms: UnixMillis::from(SystemTime::now() + period),
            in_flight: 0,
        });
    }

    pub(super) fn resume(&mut self) {
        tracing::info!(
            event = "pause_ended",
            "the pause is over: requests are routed again"
        );
        self.pause = Timer::default();
        self.journal.status.paused = None;
        self.router.resume();
    }

    /// Refuses new requests. Releases come and go behind that as always.
    fn begin_maintenance(&mut self, command: MaintenanceCommand) {
        let (mut allow, mut wrong) = (Vec::new(), Vec::new());
        for text in &command.allow {
            match text.parse::<IpNet>() {
                Ok(network) => allow.push(network),
                Err(_) => wrong.push(text.as_str()),
            }
        }
        if !wrong.is_empty() {
            self.reject_command(format!(
                "maintenance.allow has {}: expected networks such as 10.1.0.0/16; the maintenance \
                 has begun without them",
                wrong.join(", ")
            ));
        }
        tracing::info!(
            event = "maintenance_began",
            message = command.message.as_deref().unwrap_or_default(),
            allow = command.allow.join(", "),
            "the maintenance has begun: new requests get 503"
        );
        self.router.begin_maintenance(Maintenance {
            message: command.message.clone(),
            allow,
        });
        self.journal.status.maintenance = Some(MaintenanceStatus {
            since_ms: UnixMillis(command.since_ms),
            message: command.message,
            allow: command.allow,
        });
    }

    fn end_maintenance(&mut self) {
        tracing::info!(
            event = "maintenance_ended",
            "the maintenance is over: requests are routed again"
        );
        self.router.end_maintenance();
        self.journal.status.maintenance = None;
    }

    pub(super) fn report_no_rollback_target(&mut self) {
        let earlier = self.list_earlier();
        self.reject_command(format!("there is no release to go back to; {earlier}"));
    }

    pub(super) fn report_rollback_given_up(&mut self, to: &ReleaseId, by: Option<&ReleaseId>) {
        let by = by.map_or("nothing", ReleaseId::as_str);
        self.reject_command(format!(
            "the rollback to {to} was superseded: {by} runs instead"
        ));
    }

    pub(super) fn reject_command(&mut self, reason: String) {
        tracing::warn!(
            event = "command_rejected",
            %reason,
            "a command in desired.json cannot be executed"
        );
        self.journal.status.desired_problem = Some(reason);
    }

    fn list_earlier(&self) -> String {
        let earlier: Vec<_> = self.lifecycle.earlier().map(ReleaseId::as_str).collect();
        if earlier.is_empty() {
            "no other is remembered".to_owned()
        } else {
            format!(
                "these can be named: {}. Any other is deployed again",
                earlier.join(", ")
            )
        }
    }
}
