//! From a request as HTTP/1.1 has it to one of HTTP/2, and back for a response.

use http::header::{self, HeaderName};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, request};

use crate::data_plane::headers::{AddedFields, HeaderFlags};
use crate::data_plane::wire::{Head, Malformed, merge_lengths};

/// Returns the head of a request, whose fields are those for an app that speaks HTTP/1.1.
pub(super) fn request_head(head: &request::Parts, added: &AddedFields) -> Request<()> {
    let mut request = Request::new(());
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 3);
    for (name, value) in &head.headers {
        // `TE: trailers` may stay (RFC 9113, section 8.2.2).
        if !is_about_connection(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    for (name, value) in added.fields(&head.headers).into_iter().flatten() {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    *request.uri_mut() = match target(head) {
        Some(target) => {
            headers.remove(header::HOST);
            target
        }
        // The field stays, and says what is known of the authority.
        None => head.uri.clone(),
    };
    *request.method_mut() = head.method.clone();
    *request.headers_mut() = headers;
    request
}

/// Returns the target with the authority of `Host` (RFC 9113, section 8.3.1).
fn target(head: &request::Parts) -> Option<Uri> {
    let path = head.uri.path_and_query()?;
    let host = head.headers.get(header::HOST)?;
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path.clone());
    Uri::from_parts(parts).ok()
}

/// Returns the head of a response as that of one of HTTP/1.1.
///
/// # Errors
/// Returns [`Malformed::Length`] if its fields state two lengths.
pub(super) fn response_head<B>(response: Response<B>) -> Result<(Head, B), Malformed> {
    let (mut parts, body) = response.into_parts();
    let flags = HeaderFlags::scan(&parts.headers);
    let head = Head {
        status: parts.status,
        reason: None,
        version: Version::HTTP_11,
        flags,
        content_length: merge_lengths(&mut parts.headers, flags)?,
        headers: parts.headers,
    };
    Ok((head, body))
}

fn is_about_connection(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::UPGRADE,
        header::TRANSFER_ENCODING,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, target: &str, host: &'static str) -> Request<()> {
        let request = Request::builder().method(method).uri(target);
        let request = request
            .header(header::HOST, host)
            .header(header::TE, "trailers")
            .header(header::CONNECTION, "te")
            .header(header::TRANSFER_ENCODING, "chunked");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        request_head(&parts, &AddedFields::default())
    }

    #[test]
    fn the_host_becomes_the_authority_and_fields_of_the_connection_are_dropped() {
        let request = head("GET", "/a?b=c", "example.org:81");
        assert_eq!(request.uri(), "http://example.org:81/a?b=c");
        let names: Vec<_> = request.headers().keys().collect();
        assert_eq!(names, [header::TE]);
    }

    #[test]
    fn a_request_without_an_authority_keeps_what_it_has() {
        let request = head("GET", "/", "");
        assert_eq!(request.uri(), "/");
        assert_eq!(request.headers()[header::HOST], "");
    }

    #[test]
    fn the_length_of_a_response_is_stated_once() {
        let response = |lengths: [&str; 2]| {
            let response = Response::builder().header(header::CONTENT_LENGTH, lengths[0]);
            let response = response.header(header::CONTENT_LENGTH, lengths[1]);
            response_head(response.body(()).unwrap()).map(|(head, ())| head)
        };
        let head = response(["5", "5"]).unwrap();
        assert_eq!(head.content_length, Some(5));
        let stated = head.headers.get_all(header::CONTENT_LENGTH).iter();
        assert_eq!(stated.collect::<Vec<_>>(), ["5"]);
        assert_eq!(response(["5", "6"]).unwrap_err(), Malformed::Length);
    }
}
