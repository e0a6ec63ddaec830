//! A maintenance, as the status shows it.

use serde::{Deserialize, Serialize};

use super::unix_millis::UnixMillis;

/// A maintenance: new requests are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceStatus {
    /// Time at which it was requested.
    pub since_ms: UnixMillis,
    /// Text for the clients.
    pub message: Option<String>,
    /// Networks of the clients whose requests are forwarded all the same.
    pub allow: Vec<String>,
}
