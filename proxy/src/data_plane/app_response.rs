//! From the app's response to the client's.

use std::rc::Rc;

use http::{HeaderValue, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;

use super::activity::ClientState;
use super::bound::Binding;
use super::connections::Client;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::exchange::{OutgoingRequest, ResponseReader};
use super::headers::{self, UpgradeField};
use super::old_assets::AssetRequest;
use super::request_log::RequestRecord;
use super::response_body::{InFlight, ResponseBody};
use super::upgrade::spawn_tunnel;
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
        let Ok((head, reader)) = request.exchange(connection).await else {
            continue;
        };
        let is_found = head.status.is_success() || head.status == StatusCode::NOT_MODIFIED;
        if !is_found || asset.is_missed_by(head.status, &head.headers) {
            continue;
        }
        record.set_generation(upstream.generation);
        let in_flight = InFlight {
            tunnel: None,
            binding: Binding::Shared,
            upstream,
            pool: Rc::clone(&context.pool),
            client: Rc::clone(client),
            access: record.access.clone(),
        };
        return forward_response(head, reader, in_flight, version).ok();
    }
    None
}

/// Turns the app's response into the client's.
pub(super) fn forward_response(
    mut head: Head,
    reader: ResponseReader,
    mut in_flight: InFlight,
    version: Version,
) -> Result<Response<ResponseBody>, ForwardError> {
    // A 426 has to name the protocols to upgrade to (RFC 9110, section 15.5.22).
    let upgrade = if head.status == StatusCode::UPGRADE_REQUIRED {
        UpgradeField::Keep
    } else {
        UpgradeField::Remove
    };
    let rewritten = headers::rewrite_response(&mut head.headers, head.flags, upgrade);
    let outcome = if rewritten.is_err() || head.status.is_server_error() {
        ResponseOutcome::AppFault
    } else {
        ResponseOutcome::NoFault
    };
    in_flight.upstream.count_response(outcome);
    rewritten.map_err(ForwardError::BadResponse)?;
    if version == Version::HTTP_10 && reader.remaining().is_none() {
        // Only the close ends such a body, and hyper would promise an HTTP/1.0 client that asked for
        // it to keep the connection.
        let close = HeaderValue::from_static("close");
        head.headers.insert(header::CONNECTION, close);
    }
    if headers::is_event_stream(&head.headers) {
        reader.connection.handle.mark_tunnel();
        in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
        let events = ResponseBody::events(reader, in_flight, &head.headers);
        return Ok(build_response(head, events));
    }
    Ok(build_response(head, ResponseBody::app(reader, in_flight)))
}

/// Switches both sides to the protocol that the app has accepted among `protocols`.
pub(super) fn start_tunnel(
    mut head: Head,
    reader: ResponseReader,
    mut in_flight: InFlight,
    client: OnUpgrade,
    protocols: &HeaderValue,
    close_code: u16,
) -> Result<Response<ResponseBody>, ForwardError> {
    let protocol = headers::accepted_protocol(&head.headers, protocols);
    let rewritten = headers::rewrite_response(&mut head.headers, head.flags, UpgradeField::Keep);
    let outcome = if protocol.is_none() || rewritten.is_err() {
        ResponseOutcome::AppFault
    } else {
        ResponseOutcome::NoFault
    };
    in_flight.upstream.count_response(outcome);
    rewritten.map_err(ForwardError::BadResponse)?;
    let protocol = protocol.ok_or(ForwardError::Upgrade)?;
    in_flight.client.activity.enter(ClientState::Tunnel);
    in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
    spawn_tunnel(client, reader, in_flight, &protocol, close_code);
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
