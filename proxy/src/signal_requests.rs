//! Requests by signal that do not end the process.

use tokio::sync::mpsc::UnboundedReceiver;

use crate::control_plane::supervisor::UpgradeRequester;
use crate::control_plane::watcher::Reloader;
use crate::os::service_manager::{ServiceNotification, notify};
use crate::os::signal::SignalRequest;
use crate::telemetry::reopen_log_files;

/// Does what signals ask for, until the process ends.
pub async fn serve(
    mut requests: UnboundedReceiver<SignalRequest>,
    reloader: Reloader,
    upgrade: UpgradeRequester,
) {
    while let Some(request) = requests.recv().await {
        match request {
            SignalRequest::Reload => {
                tracing::info!(
                    event = "reload_requested",
                    "SIGHUP: the configuration is read, and the artifact is looked at"
                );
                notify(ServiceNotification::Reloading);
                reloader.reload().await;
                notify(ServiceNotification::Ready);
            }
            SignalRequest::Upgrade => upgrade.request("SIGUSR2"),
            SignalRequest::ReopenLogs => {
                reopen_log_files();
                tracing::info!(
                    event = "log_files_reopened",
                    "SIGUSR1: log files are opened again"
                );
            }
        }
    }
}
