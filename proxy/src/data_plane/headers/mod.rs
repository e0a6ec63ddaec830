//! Rewriting of message heads: fields for the other end are passed on, fields of one connection are
//! not.
//!
//! Pure: values in, values out. Maps are edited in place, as hyper reuses the map of a message that
//! it has sent for the next one that it receives.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode, Uri, Version, request};

use super::user_token::TOKEN_FIELDS;

mod authentication;
mod flags;
mod forwarded;
mod names;

pub use authentication::ConnectionLogin;
pub use flags::HeaderFlags;
pub use forwarded::{AddedFields, Forwarded, Peer, TrustedProxies, client_address, is_secure};
pub use names::{is_alias, is_own};

/// The reason for which a request cannot be passed on (RFC 9112, section 3.2).
pub type BadRequest = &'static str;

/// The reason for which a response cannot be passed on.
pub type BadResponse = &'static str;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The result of rewriting a request's head.
#[derive(Clone, Debug)]
pub struct RewrittenRequest {
    /// The protocols that the request asks to switch to, if it does.
    pub protocols: Option<HeaderValue>,
    /// Fields to write beside those in its map.
    pub added: AddedFields,
    /// It is part of a login that authenticates its connection.
    pub is_connection_login: bool,
}

/// Treatment of a response's `Upgrade` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeField {
    /// The field is passed on: the response switches protocols (101), or names those to ask for
    /// (426).
    Keep,
    /// The field is removed, like all fields of the connection.
    Remove,
}

/// Turns a client's request head into the app's.
///
/// # Errors
/// Returns [`BadRequest`] if the head is ambiguous.
pub fn rewrite_request(
    head: &mut request::Parts,
    peer: &Peer,
    forwarded: Forwarded,
) -> Result<RewrittenRequest, BadRequest> {
    normalize_host(head)?;
    let flags = HeaderFlags::scan(&head.headers);
    let is_chunked = flags.has_any(HeaderFlags::TRANSFER_ENCODING) && is_chunked(&head.headers)?;
    let accepts_trailers = flags.has_any(HeaderFlags::TE) && accepts_trailers(&head.headers);
    // Those of HTTP/2 are from a CONNECT: its parser refuses what comes with them.
    let upgrade =
        strip_hop_by_hop(&mut head.headers, flags).filter(|_| head.version != Version::HTTP_10);
    if flags.has_any(HeaderFlags::TE) {
        head.headers.remove(header::TE);
    }
    if flags.has_any(HeaderFlags::USER_TOKEN) {
        TOKEN_FIELDS
            .iter()
            .for_each(|name| drop(head.headers.remove(name)));
    }
    if flags.has_any(HeaderFlags::ALIAS) {
        remove_all(&mut head.headers, is_alias);
    }
    if flags.has_any(HeaderFlags::EXPECT) {
        // hyper sends the client a 100 when the body is read; the app need not.
        head.headers.remove(header::EXPECT);
    }
    if accepts_trailers {
        let trailers = HeaderValue::from_static("trailers");
        head.headers.insert(header::TE, trailers);
        append_connection_token(&mut head.headers, HeaderValue::from_static("te"));
    }
    if is_chunked && matches!(head.method, Method::GET | Method::HEAD) {
        // Without the field hyper takes these for bodyless and drops the body
        // (hyperium/hyper#2444).
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    if let Some(protocols) = &upgrade {
        head.headers.insert(header::UPGRADE, protocols.clone());
        append_connection_token(&mut head.headers, HeaderValue::from_static("upgrade"));
    }
    if let Some(left) = remaining_forwards(&head.method, &head.headers) {
        let less = HeaderValue::from(left.saturating_sub(1));
        head.headers.insert(header::MAX_FORWARDS, less);
    }
    // After all that a client could have removed, by its `Connection` field or an alias.
    let added = forwarded::apply(&mut head.headers, flags, peer, forwarded);
    let is_connection_login =
        flags.has_any(HeaderFlags::CREDENTIALS) && ConnectionLogin::find(&head.headers).is_some();
    // An HTTP/1.0 client's version would prevent the reuse of the app's connection.
    head.version = Version::HTTP_11;
    Ok(RewrittenRequest {
        protocols: upgrade,
        added,
        is_connection_login,
    })
}

/// Returns `Max-Forwards` of a TRACE or OPTIONS request, the two methods that it counts for (RFC
/// 9110, section 7.6.2).
pub fn remaining_forwards(method: &Method, headers: &HeaderMap) -> Option<u64> {
    if !matches!(*method, Method::TRACE | Method::OPTIONS) {
        return None;
    }
    let value = headers.get(header::MAX_FORWARDS)?.to_str().ok()?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().unwrap_or(u64::MAX))
}

/// Turns the app's response head into the client's.
///
/// # Errors
/// Returns [`BadResponse`] if the coding of its body is unknown.
pub fn rewrite_response(
    status: StatusCode,
    headers: &mut HeaderMap,
    flags: HeaderFlags,
    upgrade: UpgradeField,
) -> Result<(), BadResponse> {
    if flags.has_any(HeaderFlags::TRANSFER_ENCODING) {
        is_chunked(headers)?;
        // With both framings one response could be read as two (RFC 9112, section 6.3).
        headers.remove(header::CONTENT_LENGTH);
    } else if has_no_content(status) && flags.has_any(HeaderFlags::CONTENT_LENGTH) {
        // Such a response has no length (RFC 9110, section 8.6), also one to HEAD.
        headers.remove(header::CONTENT_LENGTH);
    }
    let protocol = match upgrade {
        UpgradeField::Keep => protocols(headers),
        UpgradeField::Remove => None,
    };
    strip_hop_by_hop(headers, flags);
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        append_connection_token(headers, HeaderValue::from_static("upgrade"));
    }
    Ok(())
}

fn has_no_content(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status.is_informational()
}

/// Returns `true` if a body is chunked.
///
/// # Errors
/// Returns an error for any other coding: hyper decodes the chunks only, the field is not passed
/// on, and the other end could not decode the rest (RFC 9112, section 6.1).
fn is_chunked(headers: &HeaderMap) -> Result<bool, &'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(_), _) => Err("unknown transfer coding"),
    }
}

/// Returns the time for which the app keeps idle connections, as it announces it in
/// `Keep-Alive: timeout=5`.
pub fn keep_alive_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(&KEEP_ALIVE)?.to_str().ok()?;
    let mut parameters = value.split(',').map(str::trim);
    let seconds = parameters.find_map(|word| word.strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Returns `true` for an event stream, a response that lasts until one side ends it.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| {
        const EVENT_STREAM: &[u8] = b"text/event-stream";
        let start = value.get(..EVENT_STREAM.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
    })
}

/// Returns `true` for a gRPC call or its response, whatever its messages are. (Those of gRPC-Web are not
/// among them: their status is part of the body.)
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let behind = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    behind.is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}

/// Makes the target origin-form, and `Host` the authority that counts.
fn normalize_host(head: &mut request::Parts) -> Result<(), BadRequest> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host");
    }
    // Checked even if an absolute target overrides it (RFC 9112, section 3.2).
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
        head.uri = match head.uri.path_and_query() {
            Some(path) if head.method == Method::OPTIONS && !follows(path, authority) => {
                Uri::from_static("*")
            }
            Some(path) => Uri::from(path.clone()),
            None => Uri::default(),
        };
    } else if is_unknown {
        // HTTP/1.0 needs no Host, and 1.1 does: an empty one says that it is unknown (RFC 9112,
        // section 3.2).
        let unknown = HeaderValue::from_static("");
        head.headers.insert(header::HOST, unknown);
    }
    Ok(())
}

/// Returns `true` if the target has a path or a query. Without, `OPTIONS` is about the server (RFC
/// 9112, section 3.2.4).
///
/// For the parser (http 1.5) `http://a` and `http://a/` are the same: only a path that was sent lies
/// behind its authority.
fn follows(path: &PathAndQuery, authority: &Authority) -> bool {
    std::ptr::eq(
        path.as_str().as_ptr(),
        authority.as_str().as_bytes().as_ptr_range().end,
    )
}

fn host_of(authority: &Authority) -> &str {
    // A Host field contains no user (RFC 9110, section 4.2.4).
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_user, host)| host)
}

/// Returns `true` for a `uri-host [ ":" port ]` (RFC 3986, section 3.2.2).
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

/// Removes those of an app's trailers that are about a connection or the framing on it (RFC 9110,
/// section 6.5.1); in HTTP/2 each of them would end the stream.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    for name in [
        &header::CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &header::TE,
        &header::TRAILER,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
        &header::CONTENT_LENGTH,
    ] {
        trailers.remove(name);
    }
}

/// Removes the fields of this connection (RFC 9110, section 7.6.1): `Connection`, the fields that
/// it names, and those that older senders do not name there.
///
/// Returns the protocols of a request to upgrade.
fn strip_hop_by_hop(headers: &mut HeaderMap, flags: HeaderFlags) -> Option<HeaderValue> {
    if !flags.has_any(HeaderFlags::HOP_BY_HOP) {
        return None;
    }
    let upgrade = protocols(headers);
    headers.remove(header::UPGRADE);
    let mut names_upgrade = false;
    if flags.has_any(HeaderFlags::CONNECTION) {
        let connection: Vec<_> = headers
            .get_all(header::CONNECTION)
            .iter()
            .cloned()
            .collect();
        headers.remove(header::CONNECTION);
        for token in connection.iter().flat_map(tokens) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                names_upgrade = true;
            } else if !is_about_connection(token)
                && let Ok(name) = HeaderName::from_bytes(token)
                && !is_protected(name.as_str())
            {
                headers.remove(name);
            }
        }
    }
    headers.remove(&KEEP_ALIVE);
    headers.remove(&PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(&HTTP2_SETTINGS);
    upgrade
        .filter(|_| names_upgrade)
        .and_then(|protocols| without_h2c(&protocols))
}

/// Returns the protocols of all `Upgrade` fields in one (RFC 9110, section 5.3).
fn protocols(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut fields = headers.get_all(header::UPGRADE).iter();
    let first = fields.next()?;
    if fields.next().is_none() {
        return Some(first.clone());
    }
    let fields = headers.get_all(header::UPGRADE).iter();
    let fields: Vec<_> = fields.map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&fields.join(&b", "[..])).ok()
}

/// Removes h2c from the protocols: HTTP/2 in the clear would be opaque to this proxy.
fn without_h2c(protocols: &HeaderValue) -> Option<HeaderValue> {
    let is_h2c = |token: &&[u8]| token.eq_ignore_ascii_case(b"h2c");
    if !tokens(protocols).any(|token| is_h2c(&token)) {
        return Some(protocols.clone());
    }
    let others: Vec<_> = tokens(protocols).filter(|token| !is_h2c(token)).collect();
    let others = HeaderValue::from_bytes(&others.join(&b", "[..])).ok()?;
    (!others.is_empty()).then_some(others)
}

/// Returns the protocols that the app has switched to, if all of them were requested.
pub fn accepted_protocol(response: &HeaderMap, requested: &HeaderValue) -> Option<HeaderValue> {
    let protocols = protocols(response)?;
    let is_among =
        |token: &[u8]| tokens(requested).any(|requested| requested.eq_ignore_ascii_case(token));
    let is_accepted = tokens(&protocols).next().is_some() && tokens(&protocols).all(is_among);
    is_accepted.then_some(protocols)
}

/// Returns `true` for a word about the connection, which names no field.
fn is_about_connection(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
}

/// Returns `true` for a field that `Connection` may not remove: framing, routing, and what a proxy
/// in front says of the client, who may have written the `Connection` field.
fn is_protected(name: &str) -> bool {
    matches!(name, "content-length" | "host" | "max-forwards") || names::is_forwarding(name)
}

/// Removes all fields of these names.
fn remove_all(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let names = headers.keys().filter(|name| is_removed(name.as_str()));
    let names: Vec<_> = names.cloned().collect();
    for name in names {
        headers.remove(name);
    }
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

fn append_connection_token(headers: &mut HeaderMap, token: HeaderValue) {
    headers.append(header::CONNECTION, token);
}

#[cfg(test)]
mod tests;
