//! WebSockets on streams of HTTP/2 (extended CONNECT, RFC 8441), which are upgrades of HTTP/1.1 to the
//! rest of the data plane.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::Protocol;

use super::response_body::ResponseBody;
use super::websocket;
use super::websocket_key::random_key;

/// Turns a request for a WebSocket into one to upgrade to it, and returns `true` if it was one.
pub(super) fn use_upgrade<B>(request: &mut Request<B>) -> bool {
    if *request.method() != Method::CONNECT {
        return false;
    }
    let protocol = request.extensions().get::<Protocol>();
    if protocol.is_none_or(|protocol| protocol.as_str() != websocket::PROTOCOL) {
        return false;
    }
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(
        header::UPGRADE,
        HeaderValue::from_static(websocket::PROTOCOL),
    );
    headers.insert(header::SEC_WEBSOCKET_KEY, random_key());
    true
}

/// Turns the response to an upgrade into that to an extended CONNECT.
pub(super) fn accept(response: &mut Response<ResponseBody>) {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        remove_upgrade(response.headers_mut());
    } else if status.is_success() {
        // An app without WebSockets has answered the request: not what its client would take it for.
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        *response.body_mut() = ResponseBody::Empty;
        response.headers_mut().clear();
    }
}

/// Removes what upgrades of HTTP/1.1 have and extended CONNECTs have not.
fn remove_upgrade(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_ACCEPT,
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connect_for_a_websocket_is_one() {
        let mut get = Request::get("/").body(()).unwrap();
        assert!(!use_upgrade(&mut get));
        let mut other = Request::connect("http://a/").body(()).unwrap();
        other.extensions_mut().insert(Protocol::from_static("x"));
        assert!(!use_upgrade(&mut other));
        let mut one = Request::connect("http://a/").body(()).unwrap();
        let protocol = Protocol::from_static(websocket::PROTOCOL);
        one.extensions_mut().insert(protocol);
        assert!(use_upgrade(&mut one));
        assert_eq!(one.method(), Method::GET);
        assert!(one.headers().contains_key(header::SEC_WEBSOCKET_KEY));
    }

    #[test]
    fn an_answer_without_a_switch_is_no_websocket() {
        let mut response = Response::new(ResponseBody::Text("a page".into()));
        accept(&mut response);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert!(matches!(response.body(), ResponseBody::Empty));
    }
}
