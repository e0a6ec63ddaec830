//! A maintenance, as commands ask for it and as the status shows it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::unix_millis::UnixMillis;

/// Refusal of new requests, until the key is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceCommand {
    /// Text for the clients.
    pub message: Option<String>,
    /// Networks of the clients whose requests are forwarded all the same, such as 10.1.0.0/16.
    pub allow: Vec<String>,
    /// Begin by the clock of the machine that asked for it, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

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

// === impl MaintenanceCommand ===

impl MaintenanceCommand {
    /// Returns a maintenance that begins now.
    pub fn new(message: Option<String>, allow: Vec<String>) -> Self {
        Self {
            message,
            allow,
            since_ms: UnixMillis::now().0,
            unknown: Map::new(),
        }
    }
}
