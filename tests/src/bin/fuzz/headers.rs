//! The fields of a head that are meant for the other end.

use handoff::data_plane::headers::{self, HeaderFlags, Peer, RewrittenRequest, UpgradeField};
use handoff::data_plane::wire::merge_lengths;
use handoff::data_plane::{Forwarded, TrustedProxies};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Version, request};
use proptest::prelude::*;

use crate::soup;

const NAMES: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "http2-settings",
    "expect",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x_forwarded_for",
    "x-real-ip",
    "x-a",
    "x-b",
    "cookie",
    "content-type",
];
const VALUES: &[&str] = &[
    "close",
    "keep-alive",
    "upgrade",
    "host",
    "x-a",
    "x-b",
    "te",
    "trailers",
    "chunked",
    "gzip",
    "websocket",
    "h2c",
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "5",
    "6",
    "100-continue",
    ",",
    ", ",
    " ",
    ";",
    ";q=0",
    ":",
    ":80",
    "[::1]",
    "a.example",
    "@",
    "127.0.0.1",
    "text/event-stream",
];
const TARGETS: &[&str] = &[
    "/",
    "//a",
    "/a?b",
    "*",
    "http://b/c",
    "http://u@b:81?d",
    "http://b",
    "a:80",
    "/?",
    "b",
];
/// Never seen at the other end: of the connection only.
const HOPS: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
];

type Fields = Vec<(&'static str, Vec<u8>)>;

fn fields() -> impl Strategy<Value = Fields> {
    let field = (proptest::sample::select(NAMES), soup(VALUES, 4));
    proptest::collection::vec(field, 0..8)
}

pub(super) fn request() -> impl Strategy<Value = (Fields, &'static str, bool, u8, u8)> {
    let target = proptest::sample::select(TARGETS);
    (fields(), target, any::<bool>(), 0..4_u8, 0..4_u8)
}

pub(super) fn answer() -> impl Strategy<Value = (Fields, bool)> {
    (fields(), any::<bool>())
}

fn map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(*name, value);
        }
    }
    map
}

fn names(map: &HeaderMap, of: HeaderName) -> Vec<Vec<u8>> {
    let values = map.get_all(of).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    names
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Asserts that end-to-end fields are the same, in the same order.
fn end_to_end_stays(before: &HeaderMap, after: &HeaderMap) -> Result<(), TestCaseError> {
    let named = names(before, header::CONNECTION);
    for name in ["x-a", "x-b", "cookie", "content-type"] {
        let values = |map: &HeaderMap| map.get_all(name).iter().cloned().collect::<Vec<_>>();
        if named.contains(&name.as_bytes().to_vec()) {
            prop_assert!(!after.contains_key(name))
        } else {
            prop_assert_eq!(values(before), values(after))
        }
    }
    Ok(())
}

pub(super) fn to_app(
    (fields, target, is_old, method, mode): (Fields, &'static str, bool, u8, u8),
) -> Result<(), TestCaseError> {
    let methods = [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS];
    let modes = [
        Forwarded::Auto,
        Forwarded::Append,
        Forwarded::Keep,
        Forwarded::Replace,
    ];
    let (method, mode) = (
        methods[usize::from(method)].clone(),
        modes[usize::from(mode)],
    );
    let mut head: request::Parts = Request::builder()
        .method(method)
        .uri(target)
        .body(())
        .map_err(|error| TestCaseError::fail(error.to_string()))?
        .into_parts()
        .0;
    head.headers = map(&fields);
    if is_old {
        head.version = Version::HTTP_10;
    }
    let before = head.headers.clone();
    let peer = Peer::new([192, 0, 2, 1].into(), &TrustedProxies::default());
    let hosts = before.get_all(header::HOST).iter().count();
    let Ok(RewrittenRequest {
        protocols, added, ..
    }) = headers::rewrite_request(&mut head, &peer, mode)
    else {
        return Ok(());
    };
    let after = &head.headers;
    prop_assert!(
        hosts < 2 && (hosts == 1 || is_old),
        "one Host, or an old client"
    );
    prop_assert_eq!(after.get_all(header::HOST).iter().count(), 1);
    prop_assert_eq!(head.version, Version::HTTP_11);
    prop_assert!(head.uri.authority().is_none() && head.uri.scheme().is_none());
    for name in &HOPS {
        prop_assert!(!after.contains_key(name), "{}", name);
    }
    let codings: Vec<_> = before.get_all(header::TRANSFER_ENCODING).iter().collect();
    prop_assert!(codings.len() < 2, "one coding");
    let is_chunked = |value: &&HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    prop_assert!(codings.iter().all(is_chunked), "{:?}", codings);
    prop_assert!(after.get_all(header::TRANSFER_ENCODING).iter().count() <= codings.len());
    // All that the connection is said to be about is ours.
    let connection = names(after, header::CONNECTION);
    prop_assert!(
        connection
            .iter()
            .all(|name| name == b"te" || name == b"upgrade")
    );
    prop_assert_eq!(
        protocols.is_some(),
        connection.contains(&b"upgrade".to_vec())
    );
    prop_assert_eq!(protocols.is_some(), after.contains_key(header::UPGRADE));
    if let Some(te) = after.get(header::TE) {
        prop_assert_eq!(te, "trailers");
    }
    let named = names(after, header::UPGRADE);
    prop_assert!(!named.contains(&b"h2c".to_vec()));
    prop_assert!(!after.contains_key("x_forwarded_for"));
    let is_believed = matches!(mode, Forwarded::Append | Forwarded::Keep);
    prop_assert!(is_believed || !after.contains_key("x-real-ip"));
    let lengths = |map: &HeaderMap| map.get_all(header::CONTENT_LENGTH).iter().count();
    prop_assert_eq!(lengths(&before), lengths(after));
    if mode != Forwarded::Keep {
        let added = added.fields(after).into_iter().flatten();
        let added = added.filter(|(name, _)| *name == "x-forwarded-for");
        let added = added.map(|(_, value)| value);
        let own = after.get_all("x-forwarded-for").iter();
        let named: Vec<_> = own.map(HeaderValue::as_bytes).chain(added).collect();
        prop_assert_eq!(named.len(), 1);
        prop_assert!(named[0].ends_with(b"192.0.2.1"));
        prop_assert!(mode == Forwarded::Append || named[0] == b"192.0.2.1");
    }
    end_to_end_stays(&before, after)
}

pub(super) fn to_client((fields, switches): (Fields, bool)) -> Result<(), TestCaseError> {
    let before = map(&fields);
    let mut after = before.clone();
    let upgrade = if switches {
        UpgradeField::Keep
    } else {
        UpgradeField::Remove
    };
    let flags = HeaderFlags::scan(&before);
    let is_refused = merge_lengths(&mut after, flags).is_err()
        || headers::rewrite_response(StatusCode::OK, &mut after, flags, upgrade).is_err();
    if is_refused {
        return Ok(());
    }
    let after = &after;
    for name in HOPS.iter().take(3).chain([&header::TRANSFER_ENCODING]) {
        prop_assert!(!after.contains_key(name), "{}", name);
    }
    let mut lengths = after.get_all(header::CONTENT_LENGTH).iter();
    let is_number =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    prop_assert!(lengths.next().is_none_or(is_number));
    prop_assert!(lengths.next().is_none());
    let both = before.contains_key(header::TRANSFER_ENCODING);
    prop_assert!(!both || !after.contains_key(header::CONTENT_LENGTH));
    prop_assert_eq!(
        after.contains_key(header::CONNECTION),
        switches && before.contains_key(header::UPGRADE)
    );
    end_to_end_stays(&before, after)
}
