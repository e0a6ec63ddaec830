//! Forwarding of one request: acquire an upstream, rewrite the head, send, stream back.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::acquire::{acquire_off_path, connect_with_retries};
use super::activity::{ClientState, Ending};
use super::bound::{Binding, BoundConnection};
use super::connections::Client;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::exchange::{ExchangeError, OutgoingRequest, ResponseReader};
use super::headers::{self, ConnectionLogin, HeaderFlags, RewrittenRequest, UpgradeField};
use super::local_response::respond_locally;
use super::pool::{Connection, IdleCheck};
use super::request_log::RequestRecord;
use super::response_body::{InFlight, ResponseBody};
use super::upgrade::spawn_tunnel;
use super::user_token::RequestTokens;
use super::wire::Head;
use crate::router::{ResponseOutcome, Upstream};

/// Forwards the requests of one client connection.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    context: Rc<ForwardContext>,
    client: Rc<Client>,
}

/// The future of a response.
type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>>>>;

/// A request whose head has been rewritten for the app.
struct PreparedRequest {
    outgoing: OutgoingRequest,
    version: Version,
    /// The client's side of an upgrade; awaited only after the app has switched protocols.
    upgrade: Option<OnUpgrade>,
    protocols: Option<HeaderValue>,
    is_connection_login: bool,
    tokens: Option<RequestTokens>,
}

// === impl Forward ===

impl Forward {
    pub(super) fn new(context: Rc<ForwardContext>, client: Rc<Client>) -> Self {
        Self { context, client }
    }

    /// Starts a request. All that needs no waiting is done before the future is made: inside, it
    /// would triple the future's size.
    fn respond(&self, request: Request<Incoming>) -> ResponseFuture {
        let Self { context, client } = self.clone();
        client.activity.enter(ClientState::Request);
        // Taken before the rewrite removes their fields; closed when the request ends in any way.
        let tokens = RequestTokens::take_from(request.headers(), context.user_tokens.as_ref());
        let mut record = RequestRecord::begin(&request, &context, &client);
        if let Some(answer) = respond_locally(&context, &request) {
            // With the rest of a body, which decides on the connection's end.
            drop(context.body_of(&client, request.into_body()));
            let response = match answer {
                Ok(status) => {
                    client.begin_idle();
                    let mut response = Response::new(ResponseBody::Empty);
                    *response.status_mut() = status;
                    response
                }
                Err(error) => refuse(&client, error),
            };
            let response = finish_response(&context, &client, &record, response);
            return Box::pin(ready(Ok(response)));
        }
        let prepared = PreparedRequest::new(request, tokens, &record, &context, &client);
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let response = refuse(&client, error);
                let response = finish_response(&context, &client, &record, response);
                return Box::pin(ready(Ok(response)));
            }
        };
        Box::pin(async move {
            let response = prepared.forward(&context, &client, &mut record).await;
            let response = match response {
                Ok(response) => response,
                Err(error) => {
                    // With the rest of a body, which decides on the connection's end.
                    drop(prepared);
                    refuse(&client, error)
                }
            };
            Ok(finish_response(&context, &client, &record, response))
        })
    }
}

impl tower::Service<Request<Incoming>> for Forward {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Always ready: a request waits for an upstream itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> ResponseFuture {
        self.respond(request)
    }
}

/// The same as [`tower::Service`], without an adapter's clone and future for each request.
impl hyper::service::Service<Request<Incoming>> for Forward {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        self.respond(request)
    }
}

// === impl PreparedRequest ===

impl PreparedRequest {
    fn new(
        request: Request<Incoming>,
        tokens: Option<RequestTokens>,
        record: &RequestRecord,
        context: &ForwardContext,
        client: &Client,
    ) -> Result<Self, ForwardError> {
        let (mut head, body) = request.into_parts();
        let body = context.body_of(client, body);
        let target = head.uri.path_and_query();
        if target.is_some_and(|target| target.as_str().len() > context.limits.max_target) {
            return Err(ForwardError::TargetTooLong);
        }
        let version = head.version;
        let upgrade = head.extensions.remove();
        let RewrittenRequest {
            protocols,
            added,
            is_connection_login,
        } = headers::rewrite_request(&mut head, &client.peer, context.forwarded)
            .map_err(ForwardError::BadRequest)?;
        record.set_id(&mut head.headers);
        Ok(Self {
            outgoing: OutgoingRequest::new(head, added, body),
            version,
            upgrade,
            protocols,
            is_connection_login,
            tokens,
        })
    }

    async fn forward(
        &mut self,
        context: &ForwardContext,
        client: &Rc<Client>,
        record: &mut RequestRecord,
    ) -> Result<Response<ResponseBody>, ForwardError> {
        let is_replayable = self.protocols.is_none() && self.outgoing.is_replayable();
        let bound = client.bound.take();
        let binding = if bound.is_some() || self.is_connection_login {
            Binding::Client
        } else {
            Binding::Shared
        };
        let (connection, upstream) = self
            .acquire_connection(context, bound, binding, is_replayable)
            .await?;
        record.set_generation(upstream.generation);
        if let Some(tokens) = &self.tokens {
            let fields = tokens.app_fields(&upstream);
            fields.for_each(|(name, value)| self.outgoing.set_header(name, value));
        }
        let mut in_flight = InFlight {
            tunnel: None,
            binding,
            upstream,
            pool: Rc::clone(&context.pool),
            client: Rc::clone(client),
            access: record.access.clone(),
        };
        let is_reused = connection.is_reused;
        let (head, reader) = match self.outgoing.exchange(connection).await {
            Ok(response) => response,
            // The app closed an idle connection just when it was used.
            Err(ExchangeError::NoResponse(_)) if is_reused && is_replayable => {
                if let Some(counters) = &context.counters {
                    counters.count_retry();
                }
                let retried = Box::pin(retry(&mut self.outgoing, &in_flight)).await;
                retried.inspect_err(|error| in_flight.upstream.count_response(error.outcome()))?
            }
            Err(error) => {
                if matches!(
                    error,
                    ExchangeError::NoResponse(_) | ExchangeError::PartialHead(_)
                ) {
                    in_flight.upstream.unanswered().count();
                    if let Some(counters) = &context.counters
                        && !is_replayable
                    {
                        counters.count_unanswered();
                    }
                }
                let error = ForwardError::from(error);
                in_flight.upstream.count_response(error.outcome());
                return Err(error);
            }
        };
        if head.flags.has_any(HeaderFlags::CREDENTIALS)
            && let Some(login) = ConnectionLogin::find(&head.headers)
        {
            in_flight.binding = Binding::after_response(login, head.status);
        }
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return forward_response(head, reader, in_flight, self.version);
        }
        match (self.upgrade.take(), &self.protocols) {
            (Some(upgrade), Some(protocols)) => {
                start_tunnel(head, reader, in_flight, upgrade, protocols)
            }
            (Some(_), None) | (None, _) => {
                in_flight.upstream.count_response(ResponseOutcome::AppFault);
                Err(ForwardError::Upgrade)
            }
        }
    }

    /// Returns a connection to the active upstream.
    ///
    /// Nothing of the request has been sent yet: while the upstream cannot be reached, the request waits
    /// for another one, or for this one to come back.
    async fn acquire_connection(
        &mut self,
        context: &ForwardContext,
        mut bound: Option<Box<BoundConnection>>,
        binding: Binding,
        is_replayable: bool,
    ) -> Result<(Box<Connection>, Arc<Upstream>), ForwardError> {
        let login = bound.as_mut().and_then(|bound| bound.take_login());
        let upstream = match login.or_else(|| context.router.acquire()) {
            Some(upstream) => upstream,
            None => Box::pin(acquire_off_path(context, &mut self.outgoing)).await?,
        };
        if let Some(connection) = bound.and_then(|bound| bound.into_connection(&upstream)) {
            return Ok((connection, upstream));
        }
        let check = if is_replayable {
            IdleCheck::Reactor
        } else {
            IdleCheck::Socket
        };
        match context.pool.take(&upstream, check) {
            Some(connection) => Ok((connection, upstream)),
            // Boxed, as it is rare: the future of every request would be as large as this one.
            None => Box::pin(self.connect(context, upstream, binding)).await,
        }
    }

    /// Returns a new connection. If it serves this request only, the app is asked to close it.
    async fn connect(
        &mut self,
        context: &ForwardContext,
        upstream: Arc<Upstream>,
        binding: Binding,
    ) -> Result<(Box<Connection>, Arc<Upstream>), ForwardError> {
        let (mut connection, upstream) = connect_with_retries(context, upstream).await?;
        if connection.is_single_use {
            // A tunnel and a login go on after the response.
            if self.protocols.is_none() && binding == Binding::Shared {
                self.outgoing.ask_to_close();
            } else {
                connection.is_single_use = false;
            }
        }
        Ok((connection, upstream))
    }
}

/// Returns the response to a request that the app has not answered.
fn refuse(client: &Client, error: ForwardError) -> Response<ResponseBody> {
    client.begin_idle();
    if error.ends_connection() {
        client.activity.set_ending(Ending::LingerNext);
    }
    error.into_response()
}

/// Completes the head of a response, and records it.
fn finish_response(
    context: &ForwardContext,
    client: &Client,
    record: &RequestRecord,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let is_last = context.router.is_closing() || client.activity.ending() == Ending::LingerNext;
    // A 101 has its own Connection field, and ends the connection for HTTP anyway.
    if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    record.record_response(&mut response, context);
    response
}

/// Sends a request again on a new connection, only to the same instance: if that has ended, this
/// request may be the cause.
async fn retry(
    request: &mut OutgoingRequest,
    in_flight: &InFlight,
) -> Result<(Head, ResponseReader), ForwardError> {
    let connection = in_flight.pool.connect(&in_flight.upstream).await;
    let connection = connection.map_err(ForwardError::from_connect)?;
    Ok(request.exchange(connection).await?)
}

/// Turns the app's response into the client's.
fn forward_response(
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
    }
    Ok(build_response(head, ResponseBody::app(reader, in_flight)))
}

/// Switches both sides to the protocol that the app has accepted among `protocols`.
fn start_tunnel(
    mut head: Head,
    reader: ResponseReader,
    mut in_flight: InFlight,
    client: OnUpgrade,
    protocols: &HeaderValue,
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
    spawn_tunnel(client, reader, in_flight, &protocol);
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
