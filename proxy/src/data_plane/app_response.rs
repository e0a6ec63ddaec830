//! From the app's response to the client's.

use std::rc::Rc;

use http::{HeaderValue, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite};

use super::activity::ClientState;
use super::app_body::AppBody;
use super::app_http2;
use super::app_http2::reader::{BodyEnd, StreamReader};
use super::app_reader::AppReader;
use super::bound::Binding;
use super::connections::Client;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::exchange::{OutgoingRequest, ResponseReader};
use super::grpc_body::GrpcBody;
use super::headers::{self, UpgradeField};
use super::old_assets::AssetRequest;
use super::pool::AppConnection;
use super::request_log::RequestRecord;
use super::response_body::{InFlight, ResponseBody};
use super::upgrade::{AppEnd, spawn_tunnel};
use super::wire::Head;
use crate::router::ResponseOutcome;

/// Asks the superseded instances that still run for an asset, the latest first.
pub(super) async fn ask_superseded(
    (context, client): (&ForwardContext, &Rc<Client>),
    record: &mut RequestRecord,
    (request, version): (&OutgoingRequest, Version),
    asset: &AssetRequest,
) -> Option<Response<ResponseBody>> {
    for upstream in context.router.superseded() {
        let mut request = request.copy()?;
        let Ok(connection) = context.pool.connect(&upstream).await else {
            continue;
        };
        let access = record.access.clone();
        let in_flight = InFlight::new(upstream, Binding::Shared, &context.pool, client, access);
        let generation = in_flight.upstream.generation;
        let found = match connection {
            AppConnection::Http1(connection) => {
                let answer = request.exchange(connection).await.ok();
                answer.and_then(|answer| found_asset(answer, in_flight, version, asset))
            }
            AppConnection::Http2(stream) => {
                let end = BodyEnd::OfLength;
                let answer = app_http2::exchange::exchange(&mut request, *stream, end).await;
                let answer = answer.ok();
                answer.and_then(|answer| found_asset(answer, in_flight, version, asset))
            }
        };
        if found.is_some() {
            record.set_generation(generation);
            return found;
        }
    }
    None
}

/// Returns the response of a superseded instance, if it has the asset.
fn found_asset<R: AppReader + 'static>(
    (head, reader): (Head, R),
    in_flight: InFlight,
    version: Version,
    asset: &AssetRequest,
) -> Option<Response<ResponseBody>>
where
    ResponseBody: From<AppBody<R>>,
{
    let is_found = head.status.is_success() || head.status == StatusCode::NOT_MODIFIED;
    if !is_found || asset.is_missed_by(head.status, &head.headers) {
        return None;
    }
    forward_response(head, reader, in_flight, version).ok()
}

/// Turns the response of an app that speaks HTTP/1 into the client's, or switches both sides to the
/// protocol that it has accepted; see [`start_tunnel`].
pub(super) fn forward_or_switch(
    head: Head,
    reader: ResponseReader,
    in_flight: InFlight,
    version: Version,
    (client, protocols, close_code): (&mut Option<OnUpgrade>, Option<&HeaderValue>, u16),
) -> Result<Response<ResponseBody>, ForwardError> {
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return forward_response(head, reader, in_flight, version);
    }
    let switch = (client.take(), protocols, close_code);
    start_tunnel(head, AppEnd::of_connection(reader), in_flight, switch)
}

/// Turns the app's response into the client's.
pub(super) fn forward_response<R: AppReader + 'static>(
    mut head: Head,
    reader: R,
    mut in_flight: InFlight,
    version: Version,
) -> Result<Response<ResponseBody>, ForwardError>
where
    ResponseBody: From<AppBody<R>>,
{
    rewrite(&mut head, &in_flight)?;
    let has_length = reader.remaining().is_some();
    // Only the close ends such a body.
    let ends_with_close = version == Version::HTTP_10 && !has_length;
    if ends_with_close {
        let close = HeaderValue::from_static("close");
        head.headers.insert(header::CONNECTION, close);
    }
    // One whose length is known ends by itself.
    let mut response = if !has_length && headers::is_event_stream(&head.headers) {
        reader.handle().mark_tunnel();
        in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
        let events = ResponseBody::events(reader, in_flight, &head.headers);
        build_response(head, events)
    } else {
        build_response(head, ResponseBody::app(reader, in_flight))
    };
    if ends_with_close {
        // To one of HTTP/1.1, hyper would add `keep-alive` for a client that asked for it.
        *response.version_mut() = version;
    }
    Ok(response)
}

/// Turns the app's response to a gRPC call into the client's.
pub(super) fn forward_messages(
    mut head: Head,
    reader: StreamReader,
    mut in_flight: InFlight,
) -> Result<Response<ResponseBody>, ForwardError> {
    rewrite(&mut head, &in_flight)?;
    reader.handle().mark_tunnel();
    in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
    let messages = GrpcBody::new(AppBody::new(reader, in_flight));
    Ok(build_response(
        head,
        ResponseBody::Special(Box::new(messages)),
    ))
}

/// Turns the head of the app's response into the client's, and counts the response.
fn rewrite(head: &mut Head, in_flight: &InFlight) -> Result<(), ForwardError> {
    // A 426 has to name the protocols to upgrade to (RFC 9110, section 15.5.22).
    let upgrade = if head.status == StatusCode::UPGRADE_REQUIRED {
        UpgradeField::Keep
    } else {
        UpgradeField::Remove
    };
    let rewritten = headers::rewrite_response(head.status, &mut head.headers, head.flags, upgrade);
    let outcome = if rewritten.is_err() || head.status.is_server_error() {
        ResponseOutcome::AppFault
    } else {
        ResponseOutcome::NoFault
    };
    in_flight.upstream.count_response(outcome);
    rewritten.map_err(ForwardError::BadResponse)
}

/// Switches both sides to the protocol that the app has accepted.
///
/// The switch consists of the client's side and the protocols that it asked for, if it did, and the
/// status with which a WebSocket is closed that has to end.
pub(super) fn start_tunnel<R, W>(
    mut head: Head,
    app: AppEnd<R, W>,
    mut in_flight: InFlight,
    (client, protocols, close_code): (Option<OnUpgrade>, Option<&HeaderValue>, u16),
) -> Result<Response<ResponseBody>, ForwardError>
where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let protocol = protocols.and_then(|asked| headers::accepted_protocol(&head.headers, asked));
    let switch = client.zip(protocol);
    let rewritten = headers::rewrite_response(
        head.status,
        &mut head.headers,
        head.flags,
        UpgradeField::Keep,
    );
    let outcome = if switch.is_none() || rewritten.is_err() {
        ResponseOutcome::AppFault
    } else {
        ResponseOutcome::NoFault
    };
    in_flight.upstream.count_response(outcome);
    rewritten.map_err(ForwardError::BadResponse)?;
    let (client, protocol) = switch.ok_or(ForwardError::Upgrade)?;
    in_flight.client.activity.enter(ClientState::Tunnel);
    in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
    spawn_tunnel(client, app, in_flight, &protocol, close_code);
    Ok(build_response(head, ResponseBody::Empty))
}

fn build_response(head: Head, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    response
}
