//! `handoff upgrade`: another process of this sidecar is to go on.
//!
//! That one knows the active instance only, so nothing else may be under way.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Message, Supervisor};
use crate::deployment::desired::UpgradeCommand;
use crate::process::Launch;

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
    /// The command, and the latest time of its order.
    requested: Option<(UpgradeCommand, Instant)>,
    is_ordered: bool,
}

// === impl SelfUpgrade ===

impl SelfUpgrade {
    /// Returns true with an anchor.
    pub(super) fn is_possible(&self) -> bool {
        self.orders.is_some()
    }
}

impl<L: Launch> Supervisor<L> {
    /// Sends orders to let another process go on there.
    pub fn set_upgrades(&mut self, orders: mpsc::UnboundedSender<UpgradeOrder>) {
        self.upgrade.orders = Some(orders);
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
    }

    /// Orders the upgrade, or gives it up when its time is over.
    pub(super) fn look_at_upgrade(&mut self) {
        let SelfUpgrade {
            orders: Some(orders),
            requested: Some((command, until)),
            is_ordered: false,
        } = &self.upgrade
        else {
            return;
        };
        let busy_with = self.journal.published().busy_with().or_else(|| {
            let has_command = self.lifecycle.has_command_to_retry();
            has_command.then(|| "a restart or a rollback is to be tried again".to_owned())
        });
        if let Some(reason) = busy_with {
            if Instant::now() >= *until {
                self.upgrade.requested = None;
                self.reject_upgrade(format!("the time to wait is over, and {reason}"));
                self.publish();
            }
            return;
        }
        let (ended, end) = oneshot::channel();
        let order = UpgradeOrder {
            program: command.program.clone(),
            serial: command.serial,
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
        self.upgrade.is_ordered = true;
    }

    /// Goes on, as no other process does.
    pub(super) fn not_upgraded(&mut self, end: UpgradeEnd) {
        self.upgrade.is_ordered = false;
        if let UpgradeEnd::Refused(reason) = end {
            self.upgrade.requested = None;
            self.reject_upgrade(format!("handoff is not upgraded: {reason}"));
        }
    }
}
