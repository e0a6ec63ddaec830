//! `handoff upgrade`: another process of this sidecar is to go on.
//!
//! That one knows the active instance only, so nothing else may be under way.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Message, Supervisor};
use crate::deployment::desired::UpgradeCommand;
use crate::deployment::status::CommandEnd;
use crate::process::Launch;

/// Maximum time for which an upgrade that no command asks for waits for the end of a deploy.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// Key of the command.
const UPGRADE: &str = "upgrade";

/// An order to let another process take the place of this one.
#[derive(Debug)]
pub struct UpgradeOrder {
    /// Program of the next process.
    pub program: PathBuf,
    /// Number of the command.
    pub serial: u64,
    /// Receives the reason for which this process goes on.
    pub ended: oneshot::Sender<UpgradeEnd>,
}

/// A handle that asks for an upgrade to what is in the file of the program now.
#[derive(Clone, Debug)]
pub struct UpgradeRequester(mpsc::UnboundedSender<Message>);

/// The reason for which this process goes on.
#[derive(Debug)]
pub enum UpgradeEnd {
    /// Something else is under way again.
    Busy,
    /// The next process cannot go on.
    Refused(String),
}

/// The state of an upgrade of handoff.
#[derive(Debug, Default)]
pub(super) struct SelfUpgrade {
    /// Receiver of the order; none without an anchor.
    orders: Option<mpsc::UnboundedSender<UpgradeOrder>>,
    /// The last command, and the latest time of its order.
    requested: Option<(UpgradeCommand, Instant)>,
    /// Number of the command that is carried out.
    ordered: Option<u64>,
    /// End of the process before, if this one follows a crash.
    crash: Option<String>,
}

// === impl UpgradeRequester ===

impl UpgradeRequester {
    /// Asks for it, because of `by`.
    pub fn request(&self, by: &'static str) {
        // At a shutdown nobody receives it.
        let _ = self.0.send(Message::UpgradeRequested(by));
    }
}

// === impl SelfUpgrade ===

impl SelfUpgrade {
    /// Returns true with an anchor.
    pub(super) fn is_possible(&self) -> bool {
        self.orders.is_some()
    }
}

impl<L: Launch> Supervisor<L> {
    /// Sends orders to let another process go on there. This one may follow a crash, with this end.
    pub fn set_upgrades(
        &mut self,
        orders: mpsc::UnboundedSender<UpgradeOrder>,
        crash: Option<String>,
    ) {
        self.upgrade.orders = Some(orders);
        self.upgrade.crash = crash;
    }

    /// Lets another process go on as soon as nothing but the active instance runs.
    pub(super) fn upgrade(&mut self, command: UpgradeCommand) {
        if self.upgrade.orders.is_none() {
            return self.reject_command(
                "handoff cannot be replaced without an anchor: restart it with --anchor on (Linux)"
                    .to_owned(),
            );
        }
        let until = Instant::now() + Duration::from_millis(command.max_ms);
        self.upgrade.requested = Some((command, until));
        self.supersede_upgrades();
    }

    /// Returns a handle that asks for an upgrade.
    pub fn upgrade_requester(&self) -> UpgradeRequester {
        UpgradeRequester(self.messages.clone())
    }

    /// Upgrades to what is in the file of the program now, because of `by`.
    pub(super) fn request_upgrade(&mut self, by: &'static str) {
        let reason = if !self.upgrade.is_possible() {
            "without --anchor on, handoff cannot be replaced while it runs"
        } else if self.upgrade.requested.is_some() {
            "another upgrade of handoff is under way"
        } else {
            tracing::info!(
                event = "upgrade_requested",
                by,
                "handoff is to be upgraded to the present content of its program"
            );
            let anchored = self.journal.status.anchored.as_ref();
            let last = anchored.and_then(|anchored| anchored.last_upgrade.as_ref());
            let mut command = UpgradeCommand::new(own_program(), LONGEST_WAIT);
            // It has no number of its own.
            command.serial = last.map_or(0, |last| last.serial);
            self.upgrade.requested = Some((command, Instant::now() + LONGEST_WAIT));
            return;
        };
        tracing::info!(
            event = "signal_ignored",
            signal = by,
            "nothing is upgraded: {reason}"
        );
    }

    /// Orders the upgrade, or gives it up when its time is over.
    pub(super) fn look_at_upgrade(&mut self) {
        let SelfUpgrade {
            orders: Some(orders),
            requested: Some((command, until)),
            ordered: None,
            ..
        } = &self.upgrade
        else {
            return;
        };
        let serial = command.serial;
        let busy_with = self.journal.published().busy_with().or_else(|| {
            let has_command = self.lifecycle.has_command_to_retry();
            has_command.then(|| "a restart or a rollback is to be tried again".to_owned())
        });
        if let Some(reason) = busy_with {
            if Instant::now() >= *until {
                self.reject_upgrade(serial, format!("the time to wait is over, and {reason}"));
                self.publish();
            }
            return;
        }
        let (ended, end) = oneshot::channel();
        let order = UpgradeOrder {
            program: command.program.clone(),
            serial,
            ended,
        };
        tracing::info!(
            event = "upgrade_began",
            program = %command.program.display(),
            "another process of handoff is started, to go on in the place of this one"
        );
        // The receiver ends only with the process.
        let _ = orders.send(order);
        let messages = self.messages.clone();
        tokio::task::spawn_local(async move {
            if let Ok(end) = end.await {
                let _ = messages.send(Message::NotUpgraded(end));
            }
        });
        self.upgrade.ordered = Some(serial);
    }

    /// Goes on, as no other process does.
    pub(super) fn not_upgraded(&mut self, end: UpgradeEnd) {
        let ordered = self.upgrade.ordered.take();
        if let (UpgradeEnd::Refused(reason), Some(serial)) = (end, ordered) {
            self.reject_upgrade(serial, format!("handoff is not upgraded: {reason}"));
        }
        self.supersede_upgrades();
    }

    /// Ends the upgrades that are listed at the start: this process is the end of one, or follows a
    /// crash of the process that received it.
    pub(super) fn end_upgrades_of_before(&mut self) {
        let anchored = self.journal.status.anchored.as_ref();
        let done = anchored.and_then(|anchored| anchored.last_upgrade.as_ref());
        let done = done.map_or(0, |upgrade| upgrade.serial);
        self.end_upgrades(CommandEnd::Done, None, |serial| serial == done);
        if let Some(crash) = &self.upgrade.crash {
            let reason = format!(
                "handoff was not upgraded before the process that received the command crashed \
                 ({crash}): the version that served goes on"
            );
            self.end_upgrades(CommandEnd::Refused, Some(&reason), |serial| serial > done);
        }
    }

    /// Ends the upgrades in whose place the last one is.
    fn supersede_upgrades(&mut self) {
        let Some((last, _)) = &self.upgrade.requested else {
            return;
        };
        let (last, ordered) = (last.clone(), self.upgrade.ordered);
        let reason = format!(
            "`upgrade to {}` has taken its place",
            last.program.display()
        );
        let is_before = |serial| serial < last.serial && Some(serial) != ordered;
        self.end_upgrades(CommandEnd::Superseded, Some(&reason), is_before);
    }

    /// Refuses the upgrade of this number.
    fn reject_upgrade(&mut self, number: u64, reason: String) {
        self.upgrade
            .requested
            .take_if(|(command, _)| command.serial == number);
        self.end_upgrades(CommandEnd::Refused, Some(&reason), |serial| {
            serial == number
        });
        self.report_problem(reason);
    }

    fn end_upgrades(
        &mut self,
        outcome: CommandEnd,
        reason: Option<&str>,
        are_meant: impl Fn(u64) -> bool,
    ) {
        self.end_commands(outcome, reason, |command| {
            command.key == UPGRADE && are_meant(command.serial)
        });
    }
}

/// Returns the path of the program that this process runs. The file there may be another one now.
pub fn own_program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    // proc_pid_exe(5)
    let replaced = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"));
    replaced.map_or_else(|| path.clone(), PathBuf::from)
}
