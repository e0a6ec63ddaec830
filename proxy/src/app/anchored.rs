//! The anchor of this process, and what it has kept.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};

use crate::deployment::status::{AnchoredStatus, Status, UnixMillis, UpgradeStatus};
use crate::process::anchor::{Anchor, LeavingProcesses, UpgradeRecord};
use crate::router::Router;

/// The anchor of this process, and what it has kept.
#[derive(Debug)]
pub struct Anchored {
    /// The anchor.
    pub anchor: Anchor,
    /// Public port, once it has been bound.
    pub listener: Option<TcpListener>,
    /// Port of `--admin`, once it has been bound.
    pub admin: Option<TcpListener>,
    /// End of the process before, if it was not requested.
    pub crash: Option<String>,
    /// Number of processes that ended so.
    pub crashes: u32,
    /// The last upgrades, the oldest first.
    pub upgrades: Vec<UpgradeRecord>,
    /// True if this process takes the place of one that runs.
    pub is_upgrade: bool,
    /// Processes that have been replaced, and serve their connections to the end.
    pub leaving: LeavingProcesses,
}

// === impl Anchored ===

impl Anchored {
    /// Adds the anchor to a status.
    pub(super) fn show(&mut self, status: &mut Status) {
        if let Some(upgrade) = self.upgrades.last_mut().filter(|_| self.is_upgrade) {
            let now = UnixMillis::now().0;
            upgrade.took_ms = Some(now.saturating_sub(upgrade.at_ms));
        }
        let upgrade_history: Vec<_> = self.upgrades.iter().map(show_upgrade).collect();
        status.anchored = Some(AnchoredStatus {
            pid: std::mem::replace(&mut status.pid, self.anchor.pid()),
            crashes: self.crashes,
            last_crash: self.crash.clone(),
            upgrades: self.upgrades.last().map_or(0, |upgrade| upgrade.count),
            last_upgrade: upgrade_history.last().cloned(),
            upgrade_history,
        });
    }

    /// Returns the upgrade by which this process goes on.
    pub(super) fn upgrade(&self) -> Option<UpgradeStatus> {
        let last = self.upgrades.last().filter(|_| self.is_upgrade);
        last.map(show_upgrade)
    }

    /// Returns the end of the process before, if that has crashed.
    pub(super) fn crash_before(&self) -> Option<String> {
        self.crash.clone().filter(|_| !self.is_upgrade)
    }

    /// Reports that this process serves.
    pub(super) fn begin(&self, sidecar: &str) -> io::Result<()> {
        let upgrade = self.upgrade();
        self.anchor.keep_sidecar(sidecar)?;
        self.anchor
            .report_serving(upgrade.as_ref().map(|upgrade| upgrade.took_ms))?;
        match (&self.crash, upgrade) {
            (_, Some(upgrade)) => tracing::info!(
                event = "handoff_upgraded",
                from = upgrade.from,
                to = upgrade.to,
                took = %humantime::format_duration(Duration::from_millis(upgrade.took_ms)),
                in_flight = upgrade.in_flight,
                "another process of handoff goes on with the port and the app; the one before serves \
                 its connections to their end"
            ),
            (Some(end), None) => tracing::error!(
                event = "proxy_restarted",
                end,
                crashes = self.crashes,
                "the process of handoff that served has crashed: another one goes on with its port \
                 and its app"
            ),
            (None, None) => {}
        }
        Ok(())
    }

    /// Lets the active instance run, whatever follows it, until the processes before have ended: they
    /// forward requests to it. Returns the anchor, and the task that waits for that.
    pub(super) fn hold_active(self, router: &Router) -> (Anchor, Option<JoinHandle<()>>) {
        let leaving = self.leaving;
        if leaving.is_empty() {
            return (self.anchor, None);
        }
        let upstream = router.routed_upstream();
        let task = spawn_local(async move {
            if let Err(error) = leaving.ended().await {
                tracing::warn!(
                    event = "upgrade_not_watched",
                    %error,
                    "cannot see when the process of handoff before this one ends"
                );
            }
            drop(upstream);
        });
        (self.anchor, Some(task))
    }
}

/// Returns an upgrade as the status shows it.
fn show_upgrade(upgrade: &UpgradeRecord) -> UpgradeStatus {
    UpgradeStatus {
        from: upgrade.from.clone(),
        to: upgrade.to.clone(),
        at_ms: UnixMillis(upgrade.at_ms),
        took_ms: upgrade.took_ms.unwrap_or_default(),
        in_flight: upgrade.in_flight,
        serial: upgrade.serial,
    }
}
