//! What of a message's head is meant for the other end, and what only for this connection.
//!
//! Pure: values in, values out. Maps are edited in place, as hyper hands a map that it has sent to
//! the next message it receives.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, Uri, Version, request, response};

/// What is said of the client to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

/// The client's connection, as its requests tell of it.
#[derive(Clone, Debug)]
pub struct Peer {
    forwarded_for: HeaderValue,
    is_loopback: bool,
}

/// Why a request cannot be passed on (RFC 9112, section 3.2).
pub type BadRequest = &'static str;

/// Why an answer cannot be passed on.
pub type BadAnswer = &'static str;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

// === impl Peer ===

impl Peer {
    /// A connection from this address.
    pub fn new(address: IpAddr) -> Self {
        let text = address.to_canonical().to_string();
        Self {
            forwarded_for: HeaderValue::from_str(&text)
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            is_loopback: address.to_canonical().is_loopback(),
        }
    }
}

/// Turns a client's request head into the app's.
///
/// Returns the protocols that it asks to switch to, if it does.
///
/// # Errors
/// [`BadRequest`], when it has no one meaning.
pub fn to_app(
    head: &mut request::Parts,
    peer: &Peer,
    forwarded: Forwarded,
) -> Result<Option<HeaderValue>, BadRequest> {
    check_host(head)?;
    let present = Present::in_(&head.headers);
    let is_chunked = present.has(Present::TRANSFER_ENCODING) && is_chunked(&head.headers)?;
    let accepts_trailers = present.has(Present::TE) && accepts_trailers(&head.headers);
    let upgrade =
        strip_connection(&mut head.headers, present).filter(|_| head.version == Version::HTTP_11);
    if present.has(Present::TE) {
        head.headers.remove(header::TE);
    }
    if present.has(Present::EXPECT) {
        // hyper has asked the client to go on when the body is wanted; the app need not.
        head.headers.remove(header::EXPECT);
    }
    if accepts_trailers {
        let trailers = HeaderValue::from_static("trailers");
        head.headers.insert(header::TE, trailers);
        append_token(&mut head.headers, HeaderValue::from_static("te"));
    }
    if is_chunked && matches!(head.method, Method::GET | Method::HEAD) {
        // Without it hyper takes these for bodyless and drops the body (hyperium/hyper#2444).
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    if let Some(protocols) = &upgrade {
        head.headers.insert(header::UPGRADE, protocols.clone());
        append_token(&mut head.headers, HeaderValue::from_static("upgrade"));
    }
    set_forwarded(&mut head.headers, peer, forwarded);
    // An HTTP/1.0 client's version would cost the app's connection its reuse.
    head.version = Version::HTTP_11;
    Ok(upgrade)
}

/// Turns the app's response head into the client's. `switches` says that it is a 101 that was asked
/// for.
///
/// # Errors
/// [`BadAnswer`], when its body has no one meaning.
pub fn to_client(head: &mut response::Parts, switches: bool) -> Result<(), BadAnswer> {
    let present = Present::in_(&head.headers);
    if present.has(Present::TRANSFER_ENCODING) {
        is_chunked(&head.headers)?;
        // Both together are how one response becomes two (RFC 9112, section 6.3).
        head.headers.remove(header::CONTENT_LENGTH);
    } else if present.has(Present::CONTENT_LENGTH) {
        say_length_once(&mut head.headers)?;
    }
    let upgrade = switches.then(|| head.headers.get(header::UPGRADE).cloned());
    strip_connection(&mut head.headers, present);
    if let Some(Some(protocol)) = upgrade {
        head.headers.insert(header::UPGRADE, protocol);
        append_token(&mut head.headers, HeaderValue::from_static("upgrade"));
    }
    head.version = Version::HTTP_11;
    Ok(())
}

/// Whether a body comes in chunks.
///
/// # Errors
/// When that is not all that was done to it: hyper takes away the chunks only, the field ends here,
/// and nobody would hear of the rest (RFC 9112, section 6.1).
fn is_chunked(headers: &HeaderMap) -> Result<bool, &'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(_), _) => Err("unknown transfer coding"),
    }
}

/// Says a length once that was said more than once (RFC 9112, section 6.3): hyper passes
/// `Content-Length: 5, 5` on, and does not look at all where there is no body.
fn say_length_once(headers: &mut HeaderMap) -> Result<(), BadAnswer> {
    let mut fields = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(field) = fields.next() else {
        return Ok(());
    };
    let is_length = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if fields.next().is_none() && is_length(field.as_bytes()) {
        return Ok(());
    }
    let fields: Vec<_> = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .cloned()
        .collect();
    let mut lengths = fields.iter().flat_map(tokens);
    let length = lengths.next().filter(|length| is_length(length));
    let length = length.filter(|length| lengths.all(|other| other == *length));
    let length = length.and_then(|length| HeaderValue::from_bytes(length).ok());
    let length = length.ok_or("invalid Content-Length")?;
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(())
}

/// Whether an answer goes on until one side wants it to end.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| {
        const EVENT_STREAM: &[u8] = b"text/event-stream";
        let start = value.get(..EVENT_STREAM.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
    })
}

/// Makes the target origin-form, and `Host` the authority that counts.
fn check_host(head: &mut request::Parts) -> Result<(), BadRequest> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host");
    }
    // Also where the target says it all (RFC 9112, section 3.2).
    match host {
        Some(host) if !is_host(host.as_bytes()) => return Err("invalid Host"),
        None if head.version == Version::HTTP_11 => return Err("missing Host"),
        Some(_) | None => {}
    }
    let is_unknown = host.is_none();
    if let Some(authority) = head.uri.authority() {
        if head.uri.scheme().is_none() {
            // Only CONNECT has an authority as its target (RFC 9112, section 3.2.3).
            return Err("invalid target");
        }
        // An absolute target's authority wins over the field (RFC 9112, section 3.2.2).
        let host = HeaderValue::from_str(host_of(authority)).map_err(|_| "invalid target")?;
        head.headers.insert(header::HOST, host);
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    } else if is_unknown {
        // HTTP/1.0 has none, and 1.1 needs one: an empty one says that it is unknown
        // (RFC 9112, section 3.2).
        let unknown = HeaderValue::from_static("");
        head.headers.insert(header::HOST, unknown);
    }
    Ok(())
}

fn host_of(authority: &Authority) -> &str {
    // No user in a Host field (RFC 9110, section 4.2.4).
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_user, host)| host)
}

/// Whether it can be a `uri-host [ ":" port ]` (RFC 3986, section 3.2.2).
fn is_host(host: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        name.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte) || *byte >= 0x80
        })
    };
    let is_address = |address: &[u8]| {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b":.%-_~".contains(byte);
        !address.is_empty() && address.iter().all(is_part)
    };
    let is_port = |rest: &[u8]| match rest.split_first() {
        Some((b':', port)) => port.iter().all(u8::is_ascii_digit),
        Some(_) => false,
        None => true,
    };
    let position = |byte| host.iter().position(|&b| b == byte);
    match host.first() {
        Some(b'[') => {
            position(b']').is_some_and(|end| is_address(&host[1..end]) && is_port(&host[end + 1..]))
        }
        Some(_) | None => {
            let (name, rest) = host.split_at(position(b':').unwrap_or(host.len()));
            is_name(name) && is_port(rest)
        }
    }
}

/// Removes what is meant for this connection only (RFC 9110, section 7.6.1): `Connection`, the
/// fields that it names, and those that older senders do not name.
///
/// Returns the protocols of a request to upgrade.
fn strip_connection(headers: &mut HeaderMap, present: Present) -> Option<HeaderValue> {
    if !present.has(Present::ANY_OF_THE_CONNECTION) {
        return None;
    }
    let upgrade = headers.remove(header::UPGRADE);
    let mut names_upgrade = false;
    if present.has(Present::CONNECTION) {
        let connection: Vec<_> = headers
            .get_all(header::CONNECTION)
            .iter()
            .cloned()
            .collect();
        headers.remove(header::CONNECTION);
        for token in connection.iter().flat_map(tokens) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                names_upgrade = true;
            } else if !is_protected(token)
                && let Ok(name) = HeaderName::from_bytes(token)
            {
                headers.remove(name);
            }
        }
    }
    headers.remove(&KEEP_ALIVE);
    headers.remove(&PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    let h2 = headers.remove(&HTTP2_SETTINGS).is_some();
    // HTTP/2 in the clear would leave this proxy blind to what passes.
    upgrade.filter(|value| {
        names_upgrade && !h2 && !tokens(value).any(|token| token.eq_ignore_ascii_case(b"h2c"))
    })
}

/// Which of the fields that need work are there. Most messages have none or one, and one pass over
/// the names costs less than asking the map for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Present(u8);

impl Present {
    const CONNECTION: u8 = 1;
    const TRANSFER_ENCODING: u8 = 2;
    const TE: u8 = 4;
    const EXPECT: u8 = 8;
    const OTHER: u8 = 16;
    const CONTENT_LENGTH: u8 = 32;
    const ANY_OF_THE_CONNECTION: u8 = Self::CONNECTION | Self::TRANSFER_ENCODING | Self::OTHER;

    fn in_(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |present, name| {
            present
                | match name.as_str() {
                    "connection" => Self::CONNECTION,
                    "transfer-encoding" => Self::TRANSFER_ENCODING,
                    "te" => Self::TE,
                    "expect" => Self::EXPECT,
                    "content-length" => Self::CONTENT_LENGTH,
                    "upgrade" | "keep-alive" | "proxy-connection" | "http2-settings" => Self::OTHER,
                    _ => 0,
                }
        }))
    }

    fn has(self, any_of: u8) -> bool {
        self.0 & any_of != 0
    }
}

/// What `Connection` may not take away from the other end, whatever it says: framing and routing.
fn is_protected(token: &[u8]) -> bool {
    [
        b"host".as_slice(),
        b"content-length",
        b"close",
        b"keep-alive",
    ]
    .iter()
    .any(|name| token.eq_ignore_ascii_case(name))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let tokens = value.as_bytes().split(|&byte| byte == b',');
    tokens
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter();
    values.flat_map(tokens).any(|token| {
        let name = token.split(|&byte| byte == b';').next().unwrap_or(token);
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

fn append_token(headers: &mut HeaderMap, token: HeaderValue) {
    headers.append(header::CONNECTION, token);
}

fn set_forwarded(headers: &mut HeaderMap, peer: &Peer, forwarded: Forwarded) {
    let append = match forwarded {
        Forwarded::Keep => return,
        Forwarded::Auto if peer.is_loopback && headers.contains_key(&FORWARDED_FOR) => return,
        Forwarded::Auto | Forwarded::Append => true,
        Forwarded::Replace => false,
    };
    let http = HeaderValue::from_static("http");
    if append {
        append_forwarded_for(headers, peer);
        headers.entry(&FORWARDED_PROTO).or_insert(http);
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.entry(&FORWARDED_HOST).or_insert(host);
        }
    } else {
        headers.insert(&FORWARDED_FOR, peer.forwarded_for.clone());
        headers.insert(&FORWARDED_PROTO, http);
        match headers.get(header::HOST).cloned() {
            Some(host) => headers.insert(&FORWARDED_HOST, host),
            None => headers.remove(&FORWARDED_HOST),
        };
    }
}

/// One field with all entries: not every reader joins several.
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

#[cfg(test)]
mod tests;
