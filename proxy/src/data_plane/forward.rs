//! Forwarding of one request: acquire an upstream, rewrite the head, send, stream back.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::acquire::{connect_with_retries, find_idle, give_up, retry};
use super::activity::ClientState;
use super::app_http2::forward::{StreamRequest, forward_as_stream};
use super::app_response::{ask_superseded, forward_or_switch};
use super::bound::Binding;
use super::connections::Client;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::error_response::{ErrorRecipient, refuse};
use super::exchange::{ExchangeError, OutgoingRequest};
use super::headers::{self, ConnectionLogin, HeaderFlags, RewrittenRequest};
use super::local_response::{SpecialRequest, find_special};
use super::old_assets::AssetRequest;
use super::pool::{AppConnection, IdleCheck};
use super::request_log::RequestRecord;
use super::response_body::{InFlight, ResponseBody};
use super::tester_field::PREVIEW;
use super::user_token::RequestTokens;
use crate::router::{Session, Upstream};

/// Forwards the requests of one client connection.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    context: Rc<ForwardContext>,
    client: Rc<Client>,
}

/// The future of a response.
pub(super) type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>>>>;

/// A request whose head has been rewritten for the app.
struct PreparedRequest {
    outgoing: OutgoingRequest,
    version: Version,
    /// The client's side of an upgrade; awaited only after the app has switched protocols.
    upgrade: Option<OnUpgrade>,
    /// The protocols of an upgrade. Boxed: they are rare, and every request's future has room for them.
    protocols: Option<Box<HeaderValue>>,
    is_connection_login: bool,
    /// Those of users of the platform. Boxed for the same reason.
    tokens: Option<Box<RequestTokens>>,
}

// === impl Forward ===

impl Forward {
    pub(super) fn new(context: Rc<ForwardContext>, client: Rc<Client>) -> Self {
        Self { context, client }
    }

    /// Starts a request. All that needs no waiting is done before the future is made: inside, it
    /// would triple the future's size.
    pub(super) fn respond(&self, request: Request<Incoming>) -> ResponseFuture {
        let Self { context, client } = self.clone();
        client.activity.enter(ClientState::Request);
        // Taken before the rewrite removes their fields; closed when the request ends in any way.
        let tokens = RequestTokens::take_from(request.headers(), context.user_tokens.as_ref());
        let record = RequestRecord::begin(&request, &context, &client);
        match find_special(&context, &request) {
            None => prepare(
                context,
                client,
                record,
                tokens,
                request,
                respond_from_active,
            ),
            Some(SpecialRequest::Own(response)) => {
                let mut response = *response;
                // With the rest of a body, which decides on the connection's end.
                drop(context.body_of(&client, request.into_body()));
                client.begin_idle();
                record.finish(&context, &client, &mut response);
                Box::pin(ready(Ok(response)))
            }
            Some(SpecialRequest::Refused(error)) => {
                let (head, body) = request.into_parts();
                drop(context.body_of(&client, body));
                refuse_at_once(&context, &client, &record, &head.headers, &error)
            }
            Some(SpecialRequest::Asset(asset)) => {
                let start = |context, client, record, prepared| {
                    respond_with_asset(context, client, record, prepared, *asset)
                };
                prepare(context, client, record, tokens, request, start)
            }
            Some(SpecialRequest::InSession) => {
                prepare(context, client, record, tokens, request, respond_in_session)
            }
        }
    }
}

/// Rewrites the head of a request, and starts it by `start` unless it is refused.
///
/// Each way of forwarding has its own copy of this function, so that none copies the request.
fn prepare(
    context: Rc<ForwardContext>,
    client: Rc<Client>,
    record: RequestRecord,
    tokens: Option<Box<RequestTokens>>,
    request: Request<Incoming>,
    start: impl FnOnce(Rc<ForwardContext>, Rc<Client>, RequestRecord, PreparedRequest) -> ResponseFuture,
) -> ResponseFuture {
    let (mut head, body) = request.into_parts();
    let body = context.body_of(&client, body);
    let target = head.uri.path_and_query();
    if target.is_some_and(|target| target.as_str().len() > context.limits.max_target) {
        drop(body);
        let error = ForwardError::TargetTooLong;
        return refuse_at_once(&context, &client, &record, &head.headers, &error);
    }
    let version = head.version;
    let upgrade = head.extensions.remove();
    let RewrittenRequest {
        protocols,
        added,
        is_connection_login,
    } = match headers::rewrite_request(&mut head, &client.peer, context.forwarded) {
        Ok(rewritten) => rewritten,
        Err(reason) => {
            drop(body);
            let error = ForwardError::BadRequest(reason);
            return refuse_at_once(&context, &client, &record, &head.headers, &error);
        }
    };
    record.set_id(&mut head.headers);
    let prepared = PreparedRequest {
        outgoing: OutgoingRequest::new(head, added, body),
        version,
        upgrade,
        protocols: protocols.map(Box::new),
        is_connection_login,
        tokens,
    };
    start(context, client, record, prepared)
}

/// Starts a request that goes to the active release.
fn respond_from_active(
    context: Rc<ForwardContext>,
    client: Rc<Client>,
    mut record: RequestRecord,
    mut prepared: PreparedRequest,
) -> ResponseFuture {
    Box::pin(async move {
        let active = context.router.acquire();
        let response = prepared
            .forward(&context, &client, &mut record, active)
            .await;
        let mut response = match response {
            Ok(response) => response,
            Err(error) => prepared.refuse(&context, &client, &record, &error),
        };
        record.finish(&context, &client, &mut response);
        Ok(response)
    })
}

/// Starts a request that may belong to a session, which goes to the release on which that began.
fn respond_in_session(
    context: Rc<ForwardContext>,
    client: Rc<Client>,
    mut record: RequestRecord,
    mut prepared: PreparedRequest,
) -> ResponseFuture {
    Box::pin(async move {
        let session = prepared.session(&context);
        // The generation that the client has a cookie of already.
        let mut known = None;
        let mut is_secure = false;
        let acquired = prepared.acquire_in_session(&context, &client, session);
        let response = match acquired.await {
            Ok(upstream) => {
                let begun = upstream.as_ref();
                let begun = begun.filter(|it| session.is_some_and(|of| it.resume_session(of)));
                known = begun.map(|it| it.generation);
                is_secure = known.is_none() && headers::is_secure(prepared.outgoing.headers());
                let forwarded = prepared.forward(&context, &client, &mut record, upstream);
                forwarded.await
            }
            Err(error) => Err(error),
        };
        let mut response = match response {
            Ok(mut response) => {
                if record.generation() != known
                    && let Some(cookie) = &context.session_cookie
                {
                    let by = (&*context.router, record.generation());
                    cookie.set_in(response.headers_mut(), session, by, is_secure);
                }
                response
            }
            Err(error) => prepared.refuse(&context, &client, &record, &error),
        };
        record.finish(&context, &client, &mut response);
        Ok(response)
    })
}

/// Starts a request for an asset. What the active release has no longer is looked for in earlier ones.
fn respond_with_asset(
    context: Rc<ForwardContext>,
    client: Rc<Client>,
    mut record: RequestRecord,
    mut prepared: PreparedRequest,
    asset: AssetRequest,
) -> ResponseFuture {
    Box::pin(async move {
        let session = prepared.session(&context);
        let (again, version) = (prepared.outgoing.copy(), prepared.version);
        let upstream = prepared.acquire_in_session(&context, &client, session);
        let response = match upstream.await {
            Ok(upstream) => {
                let forwarded = prepared.forward(&context, &client, &mut record, upstream);
                forwarded.await
            }
            Err(error) => Err(error),
        };
        let mut response = match response {
            Ok(missed) if asset.is_missed_by(missed.status(), missed.headers()) => {
                // The active release's answer may have ended already.
                client.activity.enter(ClientState::Request);
                let access = record.access.as_ref();
                let mut found = asset.find_file(missed.headers(), &client, access).await;
                if let (None, Some(again)) = (&found, again) {
                    let of = (&*context, &client);
                    found = ask_superseded(of, &mut record, (&again, version), &asset).await;
                }
                if found.is_none() && missed.body().is_end_stream() {
                    client.begin_idle();
                }
                found.unwrap_or(missed)
            }
            Ok(response) => response,
            Err(error) => prepared.refuse(&context, &client, &record, &error),
        };
        record.finish(&context, &client, &mut response);
        Ok(response)
    })
}

// === impl PreparedRequest ===

impl PreparedRequest {
    /// Returns the session that the request names.
    fn session(&self, context: &ForwardContext) -> Option<Session> {
        let cookie = context.session_cookie.as_ref()?;
        cookie.session_of(self.outgoing.headers())
    }

    /// Returns the upstream on which the session began, or else the active one, if there is any.
    async fn acquire_in_session(
        &self,
        context: &ForwardContext,
        client: &Client,
        session: Option<Session>,
    ) -> Result<Option<Arc<Upstream>>, ForwardError> {
        let router = &context.router;
        if let Some(active) = router.acquire() {
            let pinned = session.and_then(|session| router.acquire_pinned(session, &active));
            return Ok(Some(pinned.unwrap_or(active)));
        }
        // Boxed, as it is rare.
        let address = self.client_address(context, client);
        Box::pin(router.wait_for_permission(address)).await?;
        let headers = self.outgoing.headers();
        if headers.contains_key(PREVIEW) {
            return Ok(None);
        }
        let tester = context.tester_field.as_ref();
        let tester = tester.filter(|field| field.is_in(headers));
        let canary = tester.and_then(|_| router.acquire_canary());
        Ok(canary.or_else(|| router.acquire_side(session)))
    }

    async fn forward(
        &mut self,
        context: &ForwardContext,
        client: &Rc<Client>,
        record: &mut RequestRecord,
        upstream: Option<Arc<Upstream>>,
    ) -> Result<Response<ResponseBody>, ForwardError> {
        let is_replayable = self.protocols.is_none() && self.outgoing.is_replayable();
        let bound = client.bound.take();
        let binding = if bound.is_some() || self.is_connection_login {
            Binding::Client
        } else {
            Binding::Shared
        };
        let check = if is_replayable {
            IdleCheck::Reactor
        } else {
            IdleCheck::Socket
        };
        let (idle, upstream) = match (bound, upstream) {
            (None, Some(upstream)) => (context.pool.take(&upstream, check), upstream),
            // Boxed, as it is rare: the future of every request would be as large as this one.
            (bound, active) => {
                let address = self.client_address(context, client);
                let request = &mut self.outgoing;
                Box::pin(find_idle(context, request, address, bound, active, check)).await?
            }
        };
        let (connection, upstream) = match idle {
            Some(connection) => (connection, upstream),
            None => match self.open(context, client, upstream, binding).await? {
                (AppConnection::Http1(connection), upstream) => (connection, upstream),
                (AppConnection::Http2(stream), upstream) => {
                    let request = StreamRequest {
                        version: self.version,
                        client: self.client_address(context, client),
                        is_replayable,
                        tokens: self.tokens.as_deref(),
                        protocols: self.protocols.as_deref(),
                        upgrade: &mut self.upgrade,
                        outgoing: &mut self.outgoing,
                    };
                    let of = (context, client, record);
                    let to = (stream, upstream);
                    return Box::pin(forward_as_stream(of, request, to)).await;
                }
            },
        };
        record.set_generation(upstream.generation);
        if let Some(tokens) = &self.tokens {
            let fields = tokens.app_fields(&upstream);
            self.outgoing.headers_mut().extend(fields);
        }
        let access = record.access.clone();
        let mut in_flight = InFlight::new(upstream, binding, &context.pool, client, access);
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
                return Err(give_up(context, &in_flight.upstream, error, is_replayable));
            }
        };
        if head.flags.has_any(HeaderFlags::CREDENTIALS)
            && let Some(login) = ConnectionLogin::find(&head.headers)
        {
            in_flight.binding = Binding::after_response(login, head.status);
        }
        let protocols = self.protocols.as_deref();
        let switch = (&mut self.upgrade, protocols, context.websocket_close_code);
        forward_or_switch(head, reader, in_flight, self.version, switch)
    }

    /// Returns a stream on a connection that is open, or else a new connection.
    async fn open(
        &mut self,
        context: &ForwardContext,
        client: &Client,
        upstream: Arc<Upstream>,
        binding: Binding,
    ) -> Result<(AppConnection, Arc<Upstream>), ForwardError> {
        match context.pool.find_stream(&upstream) {
            Some(stream) => Ok((AppConnection::Http2(stream), upstream)),
            // Boxed, as it is rare: the future of every request would be as large as this one.
            None => Box::pin(self.connect(context, client, upstream, binding)).await,
        }
    }

    /// Returns a new connection. If it serves this request only, the app is asked to close it.
    async fn connect(
        &mut self,
        context: &ForwardContext,
        client: &Client,
        upstream: Arc<Upstream>,
        binding: Binding,
    ) -> Result<(AppConnection, Arc<Upstream>), ForwardError> {
        let address = || self.client_address(context, client);
        let (mut connection, upstream) = connect_with_retries(context, upstream, address).await?;
        if let AppConnection::Http1(connection) = &mut connection
            && connection.is_single_use
        {
            // A tunnel and a login go on after the response.
            if self.protocols.is_none() && binding == Binding::Shared {
                self.outgoing.ask_to_close();
            } else {
                connection.is_single_use = false;
            }
        }
        Ok((connection, upstream))
    }

    /// Ends a request that the app has not answered, and returns the response.
    fn refuse(
        self,
        context: &ForwardContext,
        client: &Client,
        record: &RequestRecord,
        error: &ForwardError,
    ) -> Response<ResponseBody> {
        let recipient = ErrorRecipient::of(&self.outgoing.sent_headers(), record);
        // With the rest of a body, which decides on the connection's end.
        drop(self);
        refuse(context, client, recipient, error)
    }

    fn client_address(&self, context: &ForwardContext, client: &Client) -> Option<IpAddr> {
        let headers = self.outgoing.headers();
        headers::client_address(headers, &client.peer, &context.trusted_proxies)
    }
}

/// Returns the response to a request that may not be passed on.
fn refuse_at_once(
    context: &ForwardContext,
    client: &Client,
    record: &RequestRecord,
    headers: &HeaderMap,
    error: &ForwardError,
) -> ResponseFuture {
    let recipient = ErrorRecipient::of(headers, record);
    let mut response = refuse(context, client, recipient, error);
    record.finish(context, client, &mut response);
    Box::pin(ready(Ok(response)))
}
