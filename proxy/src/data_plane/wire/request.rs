//! Writing of requests.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use crate::data_plane::headers;

/// Fields that are dropped from trailers: framing, routing, authentication and description of the
/// content have to be known before the body (RFC 9110, section 6.5.1). Some apps merge trailers
/// into the fields, and would take these for the client's word. Fields of handoff's own are dropped
/// as well.
const NOT_IN_TRAILERS: [&str; 13] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "range",
    "te",
    "trailer",
    "upgrade",
];

/// Maximum number of fields that are read again.
const MOST_READ: usize = 128;

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The length that the head declares, or no body.
    AsDeclared,
    /// Chunks.
    Chunked,
}

/// Appends a request's head; `added` are fields beside those in `headers`.
pub fn write_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &Uri,
    headers: &HeaderMap,
    added: &[(&str, &[u8])],
    framing: Framing,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = target
        .path_and_query()
        .map_or("/", |target| target.as_str());
    if target.starts_with('?') {
        // The path of `http://a?b` is empty (RFC 9112, section 3.2.1).
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, headers, framing);
    for (name, value) in added {
        write_field(out, name, value);
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Reads the fields of a head that [`write_head`] has written; none if there are very many.
pub fn read_fields(head: &[u8]) -> HeaderMap {
    let mut fields = [httparse::EMPTY_HEADER; MOST_READ];
    let mut request = httparse::Request::new(&mut fields);
    let mut map = HeaderMap::new();
    if request.parse(head).is_ok() {
        for field in request.headers.iter() {
            let value = HeaderValue::from_bytes(field.value);
            if let (Ok(name), Ok(value)) = (field.name.parse::<HeaderName>(), value) {
                map.append(name, value);
            }
        }
    }
    map
}

/// Appends a part of a chunked body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        // An empty chunk would be the last one.
        return;
    }
    let mut digits = [0; 16];
    let mut first = digits.len();
    let mut rest = data.len();
    while rest > 0 {
        first -= 1;
        digits[first] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
    }
    out.extend_from_slice(&digits[first..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        let name = name.as_str();
        if !NOT_IN_TRAILERS.contains(&name) && !headers::is_own(name) && !headers::is_alias(name) {
            write_field(out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the fields without a second framing, with which one request could be read as two (RFC
/// 9112, section 6.1).
fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap, framing: Framing) {
    for (name, value) in fields {
        if *name == header::TRANSFER_ENCODING
            || (framing == Framing::Chunked && *name == header::CONTENT_LENGTH)
        {
            continue;
        }
        write_field(out, name.as_str(), value.as_bytes());
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn head(fields: &[(&'static str, &'static str)], framing: Framing) -> String {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        let target = Uri::from_static("//a;b?");
        write_head(&mut out, &Method::PUT, &target, &headers, &[], framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_written_as_it_is() {
        let fields = [
            ("host", "a"),
            ("content-length", "3"),
            ("x", "1"),
            ("x", "2"),
        ];
        assert_eq!(
            head(&fields, Framing::AsDeclared),
            "PUT //a;b? HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nx: 1\r\nx: 2\r\n\r\n"
        );
    }

    #[test]
    fn no_request_has_two_framings() {
        let fields = [("content-length", "3"), ("transfer-encoding", "gzip")];
        assert_eq!(
            head(&fields, Framing::Chunked),
            "PUT //a;b? HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn a_chunked_body_reads_back() {
        let mut out = Vec::new();
        write_chunk(&mut out, b"");
        write_chunk(&mut out, &[b'x'; 26]);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        write_last_chunk(&mut out, Some(&trailers));
        let expected = format!("1a\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n", "x".repeat(26));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
