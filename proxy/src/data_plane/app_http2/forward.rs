//! Forwarding of one request to an app that speaks HTTP/2.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Response, Version};
use hyper::upgrade::OnUpgrade;

use super::connection::AppStream;
use super::deadline::Deadline;
use super::exchange::{StreamEffect, StreamFailure, exchange};
use super::reader::BodyEnd;
use super::websocket::{self, WebSocketAnswer};
use crate::data_plane::acquire::{connect_with_retries, give_up};
use crate::data_plane::app_reader::AppReader as _;
use crate::data_plane::app_response::{
    forward_messages, forward_or_switch, forward_response, start_tunnel,
};
use crate::data_plane::bound::Binding;
use crate::data_plane::connections::Client;
use crate::data_plane::context::ForwardContext;
use crate::data_plane::error::ForwardError;
use crate::data_plane::exchange::OutgoingRequest;
use crate::data_plane::headers;
use crate::data_plane::pool::AppConnection;
use crate::data_plane::request_log::RequestRecord;
use crate::data_plane::response_body::{InFlight, ResponseBody};
use crate::data_plane::user_token::RequestTokens;
use crate::router::Upstream;

/// Maximum number of times that a request is sent which the app has not worked on.
const MAX_TRIES: u32 = 5;

/// A request on its way to an app that speaks HTTP/2.
pub(in crate::data_plane) struct StreamRequest<'a> {
    pub(in crate::data_plane) outgoing: &'a mut OutgoingRequest,
    pub(in crate::data_plane) version: Version,
    pub(in crate::data_plane) client: Option<IpAddr>,
    pub(in crate::data_plane) is_replayable: bool,
    pub(in crate::data_plane) tokens: Option<&'a RequestTokens>,
    /// The protocols of an upgrade.
    pub(in crate::data_plane) protocols: Option<&'a HeaderValue>,
    pub(in crate::data_plane) upgrade: &'a mut Option<OnUpgrade>,
}

/// Sends the request, again if the app did not work on it, and returns the response.
pub(in crate::data_plane) async fn forward_as_stream(
    (context, client, record): (&ForwardContext, &Rc<Client>, &mut RequestRecord),
    request: StreamRequest<'_>,
    (stream, upstream): (Box<AppStream>, Arc<Upstream>),
) -> Result<Response<ResponseBody>, ForwardError> {
    let StreamRequest {
        outgoing,
        version,
        client: address,
        is_replayable,
        tokens,
        protocols,
        upgrade,
    } = request;
    let access = record.access.clone();
    let in_flight = |upstream| {
        InFlight::new(
            upstream,
            Binding::Shared,
            &context.pool,
            client,
            access.clone(),
        )
    };
    // Trailers reach only clients of HTTP/2 behind a stated length.
    let end = if version == Version::HTTP_2 {
        BodyEnd::OfStream
    } else {
        BodyEnd::OfLength
    };
    let (mut connection, mut upstream) = (AppConnection::Http2(stream), upstream);
    let is_websocket = websocket::is_requested(outgoing, protocols);
    let deadline = Deadline::of(outgoing.headers());
    let mut tries = 0;
    loop {
        tries += 1;
        record.set_generation(upstream.generation);
        for (name, value) in tokens.into_iter().flat_map(|of| of.app_fields(&upstream)) {
            outgoing.headers_mut().insert(name, value);
        }
        let failure = match connection {
            // Boxed, as it is rare: the future of every request would be as large as this one.
            AppConnection::Http2(stream) if is_websocket => {
                match Box::pin(websocket::open(outgoing, *stream, end)).await {
                    Ok(WebSocketAnswer::Open(head, app)) => {
                        let switch = (upgrade.take(), protocols, context.websocket_close_code);
                        return start_tunnel(head, app, in_flight(upstream), switch);
                    }
                    Ok(WebSocketAnswer::Other(head, reader)) => {
                        return forward_response(head, reader, in_flight(upstream), version);
                    }
                    Err(failure) => failure,
                }
            }
            AppConnection::Http2(stream) => {
                let exchange = pin!(exchange(outgoing, *stream, end));
                match deadline.limit(exchange).await {
                    Ok((head, reader)) => {
                        let in_flight = in_flight(upstream);
                        // Without a message its status is in its head.
                        return if headers::is_grpc(&head.headers) && !reader.is_done() {
                            forward_messages(head, reader, in_flight)
                        } else {
                            forward_response(head, reader, in_flight, version)
                        };
                    }
                    Err(failure) => failure,
                }
            }
            // A release that speaks HTTP/1 has taken over.
            AppConnection::Http1(connection) => match Box::pin(outgoing.exchange(connection)).await
            {
                Ok((head, reader)) => {
                    let switch = (upgrade, protocols, context.websocket_close_code);
                    return forward_or_switch(head, reader, in_flight(upstream), version, switch);
                }
                Err(error) => StreamFailure {
                    error,
                    effect: StreamEffect::Any,
                },
            },
        };
        let is_to_repeat = match failure.effect {
            StreamEffect::None => tries < MAX_TRIES,
            StreamEffect::Unknown => is_replayable && tries == 1,
            StreamEffect::Any => false,
        };
        if !is_to_repeat {
            return Err(give_up(context, &upstream, failure.error, is_replayable));
        }
        if let Some(counters) = &context.counters {
            counters.count_retry();
        }
        if failure.effect == StreamEffect::None {
            let connecting = Box::pin(connect_with_retries(context, upstream, || address));
            (connection, upstream) = connecting.await?;
        } else {
            // Only to the same instance: if that has ended, this request may be the cause.
            let connected = Box::pin(context.pool.connect(&upstream)).await;
            connection = connected.map_err(|error| {
                let error = ForwardError::from_connect(error);
                upstream.count_response(error.outcome());
                error
            })?;
        }
    }
}
