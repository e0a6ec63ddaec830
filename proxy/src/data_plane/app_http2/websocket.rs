//! WebSockets to an app that speaks HTTP/2 (extended CONNECT, RFC 8441), which are upgrades of HTTP/1.1
//! to the rest of the data plane, whatever the client speaks.

use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};

use super::connection::AppStream;
use super::exchange::{StreamEffect, StreamFailure, send};
use super::head::{request_head, response_head};
use super::reader::{BodyEnd, StreamReader};
use super::tunnel::{TunnelReader, TunnelWriter};
use crate::data_plane::exchange::{ExchangeError, OutgoingRequest};
use crate::data_plane::headers::HeaderFlags;
use crate::data_plane::request_body::RequestBody;
use crate::data_plane::upgrade::AppEnd;
use crate::data_plane::websocket::{PROTOCOL, is_protocol};
use crate::data_plane::websocket_key;
use crate::data_plane::wire::Head;

/// The app's answer to a request for a WebSocket.
pub(super) enum WebSocketAnswer {
    /// It is open; the head is that of an upgrade.
    Open(Head, AppEnd<TunnelReader, TunnelWriter>),
    /// It is another response.
    Other(Head, StreamReader),
}

/// Returns `true` if the request is one to upgrade to a WebSocket. An upgrade to another protocol is not
/// passed on to an app that speaks HTTP/2; it may be ignored (RFC 9110, section 7.8).
pub(super) fn is_requested(request: &OutgoingRequest, protocols: Option<&HeaderValue>) -> bool {
    protocols.is_some_and(is_protocol)
        && request.head.method == Method::GET
        && request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
        && matches!(request.body, RequestBody::Empty)
}

/// Requests a WebSocket by a request to upgrade.
///
/// # Errors
/// Returns a [`StreamFailure`] if there is no answer, or the app takes no WebSockets.
pub(super) async fn open(
    request: &mut OutgoingRequest,
    stream: AppStream,
    end: BodyEnd,
) -> Result<WebSocketAnswer, StreamFailure> {
    let failure = |error| StreamFailure {
        error,
        effect: StreamEffect::Any,
    };
    if !stream.allows_websockets().await.map_err(failure)? {
        return Err(failure(ExchangeError::NoWebSockets));
    }
    let mut head = request_head(&request.head, &request.added);
    use_connect(&mut head);
    let (answer, upload, open) = send(head, request, stream).await?;
    let (mut head, body) = response_head(answer).map_err(|error| failure(error.into()))?;
    let mut sending = upload.into_stream();
    if !head.status.is_success() {
        // A reset instead would end the response, too.
        let _ = sending.send_data(Default::default(), true);
        let reader = StreamReader::new(body, head.content_length, end, None, open);
        return Ok(WebSocketAnswer::Other(head, reader));
    }
    let handle = open.handle.clone();
    accept(&mut head, request.headers());
    let app = AppEnd {
        from_app: TunnelReader::new(body, open),
        to_app: TunnelWriter(sending),
        handle,
        upload: None,
        socket: None,
    };
    Ok(WebSocketAnswer::Open(head, app))
}

/// Turns a request to upgrade into an extended CONNECT.
fn use_connect(request: &mut Request<()>) {
    *request.method_mut() = Method::CONNECT;
    let protocol = Protocol::from_static(PROTOCOL);
    request.extensions_mut().insert(protocol);
    request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
}

/// Turns the response to an extended CONNECT into that to the upgrade.
fn accept(head: &mut Head, request: &HeaderMap) {
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.content_length = None;
    let headers = &mut head.headers;
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    if let Some(key) = request.get(header::SEC_WEBSOCKET_KEY) {
        let answer = websocket_key::answer_to(key);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, answer);
    }
    head.flags = HeaderFlags::scan(headers);
}
