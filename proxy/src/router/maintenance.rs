//! A period in which new requests are refused.

use std::net::IpAddr;

use ipnet::IpNet;

/// A period in which new requests are refused, except for those of some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Text for the clients.
    pub message: Option<String>,
    /// Networks of the clients whose requests are routed all the same.
    pub allow: Vec<IpNet>,
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
