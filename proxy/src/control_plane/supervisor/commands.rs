//! Commands that come through `desired.json`.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::lifecycle::{Event, RestartEnd};
use crate::deployment::desired::{ControlCommand, Desired, MaintenanceCommand, NumberedCommand};
use crate::deployment::rollout::Rollout;
use crate::deployment::status::{CommandEnd, CommandStatus, MaintenanceStatus, Paused, UnixMillis};
use crate::process::Launch;
use crate::release::{Digest, ReleaseId};
use crate::router::Maintenance;

impl<L: Launch> Supervisor<L> {
    pub(super) fn desired(&mut self, desired: Desired, at_start: bool) {
        let before = (!at_start).then(|| self.desired.take().unwrap_or_default());
        let (commands, problem) = desired.commands_since(before.as_ref(), SystemTime::now());
        self.journal.status.desired_problem = problem;
        self.journal.status.rollout = desired.rollout.as_ref().map(Rollout::status);
        if at_start {
            for command in desired.commands_of_before() {
                self.note(&command);
            }
            self.end_upgrades_of_before();
            let reason = "it was written before this process of handoff started";
            self.end_commands(CommandEnd::Superseded, Some(reason), |_| true);
        }
        for command in commands {
            tracing::info!(
                event = "command_received",
                command = %command.command,
                serial = command.serial,
                "a command was received through desired.json"
            );
            self.note(&command);
            self.execute(command.command);
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
            ControlCommand::Rollback(None) => match self.lifecycle.before_the_latest() {
                Some(to) => self.roll_back(to),
                None => self.on(Event::RollbackRequested(None)),
            },
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
        self.roll_back(id);
    }

    fn roll_back(&mut self, to: ReleaseId) {
        let reason = format!("the rollback was superseded by another one, to {to}");
        let is_other = |command: &CommandStatus| {
            let other = command.rollback_to.as_ref();
            other.is_some_and(|other| *other != to)
        };
        self.end_commands(CommandEnd::Superseded, Some(&reason), is_other);
        if let Some(command) = self.journal.status.commands.last_mut() {
            command.rollback_to = Some(to.clone());
        }
        self.journal.status.rollback_to = Some(to.clone());
        self.on(Event::RollbackRequested(Some(to)));
    }

    /// Ends the rollbacks that are carried out, or have failed.
    pub(super) fn look_at_rollbacks(&mut self) {
        let lifecycle = &self.lifecycle;
        for command in self.journal.status.commands.open_mut() {
            if let Some(to) = &command.rollback_to {
                if lifecycle.is_serving(to) {
                    command.outcome = CommandEnd::Done;
                } else if lifecycle.rollback_target() != Some(to) {
                    command.outcome = CommandEnd::Refused;
                }
            }
        }
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
        let reason = format!("the rollback to {to} was superseded: {by} runs instead");
        let is_it = |command: &CommandStatus| command.rollback_to.as_ref() == Some(to);
        self.end_commands(CommandEnd::Superseded, Some(&reason), is_it);
        self.report_problem(reason);
    }

    pub(super) fn report_restart(&mut self, end: RestartEnd) {
        let is_restart = |command: &CommandStatus| command.key == ControlCommand::Restart.key();
        match end {
            RestartEnd::Done => self.end_commands(CommandEnd::Done, None, is_restart),
            RestartEnd::Failed => self.end_commands(CommandEnd::Refused, None, is_restart),
            RestartEnd::Superseded(to) => {
                let reason = format!("the restart was superseded by the rollback to {to}");
                self.end_commands(CommandEnd::Superseded, Some(&reason), is_restart);
            }
        }
    }

    /// Lists a command that was received.
    fn note(&mut self, command: &NumberedCommand) {
        self.journal.status.commands.add(CommandStatus {
            key: command.command.key().to_owned(),
            command: command.command.to_string(),
            serial: command.serial,
            outcome: CommandEnd::Received,
            reason: None,
            rollback_to: None,
        });
    }

    /// Ends the listed commands that have not ended and `are_meant`.
    pub(super) fn end_commands(
        &mut self,
        outcome: CommandEnd,
        reason: Option<&str>,
        are_meant: impl Fn(&CommandStatus) -> bool,
    ) {
        let open = self.journal.status.commands.open_mut();
        for command in open.filter(|it| are_meant(it)) {
            command.outcome = outcome;
            command.reason = reason.map(str::to_owned);
        }
    }

    /// Refuses the command that is being executed.
    pub(super) fn reject_command(&mut self, reason: String) {
        if let Some(command) = self.journal.status.commands.last_mut() {
            command.outcome = CommandEnd::Refused;
            command.reason = Some(reason.clone());
        }
        self.report_problem(reason);
    }

    pub(super) fn report_problem(&mut self, reason: String) {
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
