//! The anchor of this process, and what it has kept.

use std::io;
use std::net::TcpListener;

use crate::deployment::status::{AnchoredStatus, Status};
use crate::process::anchor::Anchor;

/// The anchor of this process, and what it has kept.
#[derive(Debug)]
pub struct Anchored {
    /// The anchor.
    pub anchor: Anchor,
    /// Public port, once it has been bound.
    pub listener: Option<TcpListener>,
    /// End of the process before, if it was not requested.
    pub crash: Option<String>,
    /// Number of processes that ended so.
    pub crashes: u32,
}

// === impl Anchored ===

impl Anchored {
    /// Adds the anchor to a status.
    pub(super) fn show(&self, status: &mut Status) {
        status.anchored = Some(AnchoredStatus {
            pid: std::mem::replace(&mut status.pid, self.anchor.pid()),
            crashes: self.crashes,
            last_crash: self.crash.clone(),
        });
    }

    /// Reports that this process serves.
    pub(super) fn begin(&self, sidecar: &str) -> io::Result<()> {
        if let Some(end) = &self.crash {
            tracing::error!(
                event = "proxy_restarted",
                end,
                crashes = self.crashes,
                "the process of handoff that served has crashed: another one goes on with its port \
                 and its app"
            );
        }
        self.anchor.keep_sidecar(sidecar)?;
        self.anchor.report_serving()
    }
}
