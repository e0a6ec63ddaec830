//! The anchor of this process, and what it has kept.

use std::io;
use std::net::TcpListener;

use tokio::task::{JoinHandle, spawn_local};

use crate::deployment::status::{AnchoredStatus, Status, UnixMillis, UpgradeStatus};
use crate::process::anchor::{Anchor, LastUpgrade, LeavingProcesses};
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
    /// The last upgrade.
    pub upgrade: Option<LastUpgrade>,
    /// True if this process takes the place of one that runs.
    pub is_upgrade: bool,
    /// Processes that have been replaced, and serve their connections to the end.
    pub leaving: LeavingProcesses,
}

// === impl Anchored ===

impl Anchored {
    /// Adds the anchor to a status.
    pub(super) fn show(&self, status: &mut Status) {
        let upgrade = self.upgrade.as_ref();
        status.anchored = Some(AnchoredStatus {
            pid: std::mem::replace(&mut status.pid, self.anchor.pid()),
            crashes: self.crashes,
            last_crash: self.crash.clone(),
            upgrades: upgrade.map_or(0, |upgrade| upgrade.count),
            last_upgrade: upgrade.map(|upgrade| UpgradeStatus {
                from: upgrade.from.clone(),
                at_ms: UnixMillis(upgrade.at_ms),
                serial: upgrade.serial,
            }),
        });
    }

    /// Reports that this process serves.
    pub(super) fn begin(&self, sidecar: &str) -> io::Result<()> {
        match (&self.crash, &self.upgrade) {
            (_, Some(upgrade)) if self.is_upgrade => tracing::info!(
                event = "handoff_upgraded",
                from = upgrade.from,
                to = env!("CARGO_PKG_VERSION"),
                "another process of handoff goes on with the port and the app; the one before serves \
                 its connections to their end"
            ),
            (Some(end), _) => tracing::error!(
                event = "proxy_restarted",
                end,
                crashes = self.crashes,
                "the process of handoff that served has crashed: another one goes on with its port \
                 and its app"
            ),
            (None, _) => {}
        }
        self.anchor.keep_sidecar(sidecar)?;
        self.anchor.report_serving()
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
