//! The gate before the route: pauses and maintenance.
//!
//! While it is shut, the active pointer is empty, so that an open gate costs a request nothing.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::upstream::Upstream;

/// The gate of a router.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// New requests are held.
    pub(super) is_paused: bool,
    /// New requests are refused.
    pub(super) maintenance: Option<Arc<Maintenance>>,
    /// The upstream to which new requests go once the gate is open.
    pub(super) behind: Option<Arc<Upstream>>,
}

/// A period in which new requests are refused, except for those of some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Text for the clients.
    pub message: Option<String>,
    /// Networks of the clients whose requests are routed all the same.
    pub allow: Vec<IpNet>,
}

// === impl Gate ===

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        !self.is_paused && self.maintenance.is_none()
    }
}

// === impl Maintenance ===

impl Maintenance {
    /// Returns `true` if the requests of this client are routed; one whose address is not known is
    /// nobody in particular.
    pub fn allows(&self, client: Option<IpAddr>) -> bool {
        let client = client.map(|address| address.to_canonical());
        client.is_some_and(|client| self.allow.iter().any(|network| network.contains(&client)))
    }
}
