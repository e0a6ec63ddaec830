//! The numbers of connections for which there are descriptors.

use super::settings::DataPlaneSettings;

/// Number of descriptors that connections never take: files, pipes of instances, and up to 64
/// connections to the admin port.
const RESERVE: usize = 128;
/// Number of further ones for each worker: its reactor, its listener, and a connection that it has
/// accepted and that waits for a place.
const RESERVE_PER_WORKER: usize = 4;
/// Smallest share of all descriptors that clients, and connections to the app, may take.
const MIN_SHARE: usize = 8;

/// The numbers of connections that may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// Maximum number of clients' connections.
    pub(super) clients: usize,
    /// Maximum number of connections to the app.
    pub(super) app: usize,
}

// === impl ConnectionLimits ===

impl ConnectionLimits {
    /// Returns the limits that leave enough of this many `descriptors` to the control plane. Each
    /// client may need a connection to the app.
    pub(super) fn new(settings: &DataPlaneSettings, descriptors: Option<usize>) -> Self {
        let reserve = RESERVE + RESERVE_PER_WORKER * settings.workers;
        let fitting = descriptors.map_or(usize::MAX, |all| {
            (all.saturating_sub(reserve) / 2).max(all / MIN_SHARE)
        });
        if let Some(descriptors) = descriptors
            && fitting < settings.max_connections
        {
            tracing::info!(
                event = "connections_limited",
                connections = fitting,
                descriptors,
                "the limit of open descriptors (ulimit -n, LimitNOFILE) allows fewer client \
                 connections than --max-connections"
            );
        }
        Self {
            clients: fitting.min(settings.max_connections),
            app: fitting,
        }
    }
}
