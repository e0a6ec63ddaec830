//! The health check of gRPC: `grpc.health.v1.Health/Check`.
//!
//! Its messages have one field each, so they are written and read here.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;

use super::exchange::Answered;

/// Path of the call.
const CALL: &str = "/grpc.health.v1.Health/Check";
/// Tag of the first field, a string (Protocol Buffers, encoding: number 1, wire type 2).
const SERVICE: u8 = 0x0a;
/// Tag of the first field, a number (number 1, wire type 0).
const STATUS: u8 = 0x08;
/// Length of what precedes a message: a flag and the length of the message.
const PREFIX: usize = 5;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Returns the request that asks for the health of a service, or of the whole server if its name is
/// empty.
pub(super) fn request(authority: &str, service: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from(message(service)));
    *request.method_mut() = Method::POST;
    if let Ok(target) = format!("http://{authority}{CALL}").parse() {
        *request.uri_mut() = target;
    }
    let headers = request.headers_mut();
    let content_type = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

/// Returns an error text if the answer is another one than `SERVING`.
pub(super) fn judge(answer: &Answered) -> Result<(), String> {
    // An answer without a message has its status in the head.
    let fields = answer.trailers.as_ref().unwrap_or(&answer.headers);
    match text_of(fields, &GRPC_STATUS).as_deref() {
        Some("0") => match serving_status(&answer.body) {
            Some(1) => Ok(()),
            Some(0) | None => Err("said UNKNOWN".to_owned()),
            Some(2) => Err("said NOT_SERVING".to_owned()),
            Some(3) => Err("said SERVICE_UNKNOWN".to_owned()),
            Some(other) => Err(format!("said {other}")),
        },
        Some(code) => {
            let reason = match code {
                "5" => " (NOT_FOUND: it does not know the service)",
                "12" => " (UNIMPLEMENTED: it has no health service)",
                _ => "",
            };
            let message = text_of(fields, &GRPC_MESSAGE).unwrap_or_default();
            Err(format!("ended with status {code}{reason} {message}"))
        }
        None => Err(format!("was answered {} without gRPC", answer.status)),
    }
    .map_err(|text| text.trim_end().to_owned())
}

/// Returns the message that names a service, behind its prefix.
fn message(service: &str) -> Vec<u8> {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(SERVICE);
        let mut length = service.len();
        while length >= 0x80 {
            field.push((length % 0x80) as u8 | 0x80);
            length /= 0x80;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend((field.len() as u32).to_be_bytes());
    message.extend(field);
    message
}

/// Returns the status in a message; zero is not sent.
fn serving_status(message: &[u8]) -> Option<u8> {
    match message.get(PREFIX..)? {
        [] => Some(0),
        [STATUS, status, ..] => Some(*status),
        _ => None,
    }
}

fn text_of(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = fields.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_its_length_in_front_and_names_the_service() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn only_serving_is_healthy() {
        let judged = |body: &'static [u8], trailers: &[(&'static str, &'static str)]| {
            let fields = trailers.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            judge(&Answered {
                status: http::StatusCode::OK,
                headers: HeaderMap::new(),
                body: Bytes::from_static(body),
                trailers: Some(fields.collect()),
            })
        };
        let good = [("grpc-status", "0")];
        assert_eq!(judged(&[0, 0, 0, 0, 2, 8, 1], &good), Ok(()));
        for (body, said) in [
            (&[0, 0, 0, 0, 2, 8, 2][..], "said NOT_SERVING"),
            (&[0, 0, 0, 0, 2, 8, 3], "said SERVICE_UNKNOWN"),
            (&[0, 0, 0, 0, 0], "said UNKNOWN"),
            (b"", "said UNKNOWN"),
        ] {
            assert_eq!(judged(body, &good).unwrap_err(), said);
        }
        let failed = judged(b"", &[("grpc-status", "12")]).unwrap_err();
        assert!(failed.contains("UNIMPLEMENTED"), "{failed}");
        let failed = judged(b"", &[]).unwrap_err();
        assert_eq!(failed, "was answered 200 OK without gRPC");
    }
}
