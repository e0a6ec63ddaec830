//! The fields that describe the client to the app: handoff sets `X-Forwarded-For`, `-Proto` and
//! `-Host`; proxies in front may have set these and others.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::{HeaderFlags, names};

/// Treatment of the fields that describe the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// From a trusted peer: kept if they include `X-Forwarded-For`, else as with
    /// [`Forwarded::Append`]. From any other peer: as with [`Forwarded::Replace`].
    ///
    /// IIS or another front end wrote the field. A second entry with its own address would turn
    /// every user into the front end for those who read the rightmost one.
    Auto,
    /// `X-Forwarded-For` gets the peer appended; `-Proto` and `-Host` are set where missing.
    Append,
    /// Left as they came.
    Keep,
    /// Set to what is known here, whatever came; all others are removed.
    Replace,
}

/// The networks whose proxies are believed, beside those on this machine.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The client's address, as its requests describe it to the app.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    forwarded_for: HeaderValue,
    is_trusted: bool,
}

/// Fields to write behind those of a request, which has none of them. In its map they would cost
/// more than all the rest of the head, as the map would have to grow.
#[derive(Clone, Debug, Default)]
pub struct AddedFields(Option<HeaderValue>);

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PROTO: &str = "http";

// === impl TrustedProxies ===

impl TrustedProxies {
    /// Returns the proxies in these networks, and on this machine.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn contain(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.0.iter().any(|network| network.contains(&address))
    }
}

// === impl Peer ===

impl Peer {
    /// Returns the peer at this address.
    pub fn new(address: IpAddr, trusted: &TrustedProxies) -> Self {
        // An IPv4 peer of an IPv6 listener is one of IPv4.
        let canonical = address.to_canonical();
        Self {
            address,
            forwarded_for: HeaderValue::from_str(&canonical.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            is_trusted: trusted.contain(canonical),
        }
    }

    /// Returns the client's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

// === impl AddedFields ===

impl AddedFields {
    /// Returns the fields for a request with these headers.
    pub fn fields<'a>(&'a self, headers: &'a HeaderMap) -> Option<[(&'static str, &'a [u8]); 3]> {
        let forwarded_for = self.0.as_ref()?;
        let host = headers
            .get(header::HOST)
            .map_or(&b""[..], HeaderValue::as_bytes);
        Some([
            (FORWARDED_FOR.as_str(), forwarded_for.as_bytes()),
            (FORWARDED_PROTO.as_str(), PROTO.as_bytes()),
            (FORWARDED_HOST.as_str(), host),
        ])
    }
}

/// Returns `true` if the client's own connection is encrypted, as far as the rewritten request tells.
pub fn is_secure(headers: &HeaderMap) -> bool {
    let proto = headers.get(&FORWARDED_PROTO);
    proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Returns the address of the client of a request, behind the trusted proxies that have passed it
/// on; `None` if they do not tell.
pub fn client_address(
    headers: &HeaderMap,
    peer: &Peer,
    trusted: &TrustedProxies,
) -> Option<IpAddr> {
    let mut address = peer.address.to_canonical();
    for value in headers.get_all(&FORWARDED_FOR).iter().rev() {
        for entry in value.to_str().ok()?.rsplit(',') {
            if !trusted.contain(address) {
                return Some(address);
            }
            address = parse_entry(entry.trim())?.to_canonical();
        }
    }
    Some(address)
}

/// Reads an address, which some proxies write with a port.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || Some(entry.parse::<SocketAddr>().ok()?.ip());
    entry.parse().ok().or_else(with_port).or_else(bare)
}

/// Sets the fields in the map, or returns those to add.
pub(super) fn apply(
    headers: &mut HeaderMap,
    flags: HeaderFlags,
    peer: &Peer,
    forwarded: Forwarded,
) -> AddedFields {
    if forwarded == Forwarded::Keep {
        return AddedFields::default();
    }
    if !flags.has_any(HeaderFlags::FORWARDED) {
        return AddedFields(Some(peer.forwarded_for.clone()));
    }
    match forwarded {
        Forwarded::Auto if peer.is_trusted => {
            if !headers.contains_key(&FORWARDED_FOR) {
                append(headers, peer);
            }
            AddedFields::default()
        }
        Forwarded::Append => {
            append(headers, peer);
            AddedFields::default()
        }
        Forwarded::Keep => AddedFields::default(),
        Forwarded::Auto | Forwarded::Replace => {
            super::remove_all(headers, names::is_forwarding);
            AddedFields(Some(peer.forwarded_for.clone()))
        }
    }
}

fn append(headers: &mut HeaderMap, peer: &Peer) {
    append_forwarded_for(headers, peer);
    let http = HeaderValue::from_static(PROTO);
    headers.entry(&FORWARDED_PROTO).or_insert(http);
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(&FORWARDED_HOST).or_insert(host);
    }
}

/// Appends the client to the field, as a single field with all entries: not every reader joins
/// several.
fn append_forwarded_for(headers: &mut HeaderMap, peer: &Peer) {
    if !headers.contains_key(&FORWARDED_FOR) {
        headers.insert(&FORWARDED_FOR, peer.forwarded_for.clone());
        return;
    }
    let mut entries = Vec::new();
    for value in headers.get_all(&FORWARDED_FOR) {
        entries.extend_from_slice(value.as_bytes());
        entries.extend_from_slice(b", ");
    }
    entries.extend_from_slice(peer.forwarded_for.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&entries) {
        headers.insert(&FORWARDED_FOR, value);
    }
}
