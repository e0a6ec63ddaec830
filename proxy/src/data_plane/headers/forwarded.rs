//! The fields that describe the client to the app: `X-Forwarded-For`, `-Proto` and `-Host`.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::HeaderFlags;

/// Treatment of the fields that describe the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Kept when the peer is loopback and says `X-Forwarded-For` already; else appended.
    ///
    /// IIS or a local front end wrote it then. A second entry of 127.0.0.1 would turn every user
    /// into localhost for those who read the rightmost one.
    Auto,
    /// `X-Forwarded-For` gets the peer appended; `-Proto` and `-Host` are set where missing.
    Append,
    /// Left as they came.
    Keep,
    /// Set to what is known here, whatever came.
    Replace,
}

/// The client's address, as its requests describe it to the app.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    forwarded_for: HeaderValue,
    is_loopback: bool,
}

/// Fields to write behind those of a request that has none of the three. In its map they would cost
/// more than all the rest of the head, as the map would have to grow.
#[derive(Clone, Debug, Default)]
pub struct AddedFields(Option<HeaderValue>);

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PROTO: &str = "http";

// === impl Peer ===

impl Peer {
    /// Returns the peer at this address.
    pub fn new(address: IpAddr) -> Self {
        let text = address.to_canonical().to_string();
        Self {
            address,
            forwarded_for: HeaderValue::from_str(&text)
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            is_loopback: address.to_canonical().is_loopback(),
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
    let http = HeaderValue::from_static(PROTO);
    let host = |headers: &HeaderMap| headers.get(header::HOST).cloned();
    match forwarded {
        Forwarded::Auto if peer.is_loopback && headers.contains_key(&FORWARDED_FOR) => {}
        Forwarded::Auto | Forwarded::Append | Forwarded::Keep => {
            append_forwarded_for(headers, peer);
            headers.entry(&FORWARDED_PROTO).or_insert(http);
            if let Some(host) = host(headers) {
                headers.entry(&FORWARDED_HOST).or_insert(host);
            }
        }
        Forwarded::Replace => {
            headers.insert(&FORWARDED_FOR, peer.forwarded_for.clone());
            headers.insert(&FORWARDED_PROTO, http);
            match host(headers) {
                Some(host) => headers.insert(&FORWARDED_HOST, host),
                None => headers.remove(&FORWARDED_HOST),
            };
        }
    }
    AddedFields::default()
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
