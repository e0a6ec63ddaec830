//! The observers of the status of a sidecar.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_local;

use super::AppError;
use crate::control_plane::status_file::{self, StatusWriter};
use crate::data_plane::TrafficCounters;
use crate::deployment::status::{Status, UpgradeStatus};
use crate::observe::admin::Admin;
use crate::observe::{announcer, event_hook, systemd};
use crate::os::service_manager::{ServiceNotification, notify};
use crate::process::announcement::NotifyRequest;
use crate::router::Router;

/// All that observes the status.
pub(super) struct Observers {
    pub(super) admin: Option<(Admin, TrafficCounters)>,
    pub(super) on_event: Option<String>,
    pub(super) announcement: Option<NotifyRequest>,
    /// Upgrade by which this process goes on.
    pub(super) upgrade: Option<UpgradeStatus>,
}

// === impl Observers ===

impl Observers {
    /// Starts them, and returns the writer of the status file.
    pub(super) fn start(
        self,
        file: PathBuf,
        observed: watch::Receiver<Status>,
        router: &Arc<Router>,
    ) -> Result<StatusWriter, AppError> {
        if let Some((admin, tallies)) = self.admin {
            spawn_local(admin.serve(observed.clone(), Arc::clone(router), tallies));
        }
        if let Some(command) = self.on_event {
            spawn_local(event_hook::notify(command, observed.clone(), self.upgrade));
        }
        spawn_local(announcer::announce(self.announcement, observed.clone()));
        notify(ServiceNotification::Ready);
        spawn_local(systemd::report(observed.clone()));
        status_file::publish(file, observed).map_err(AppError::Thread)
    }
}
