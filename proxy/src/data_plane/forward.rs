//! One request: acquire, rewrite, send, stream back.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::access::Recorder;
use super::activity::{Activity, Doing};
use super::body::{InFlight, Leftovers, RequestBody, ResponseBody};
use super::error::ForwardError;
use super::exchange::{Failure, Outgoing, Receiving};
use super::followed::Followed;
use super::headers::{self, Forwarded, Peer, ToApp};
use super::pool::{Connection, Pool};
use super::request_id::RequestIds;
use super::shutdown_request::ShutdownRequest;
use super::stream::Stream;
use super::tally::Tally;
use super::upgrade::tunnel;
use super::user_token::{Taken, UserTokens};
use super::wire::Head;
use super::worker::Open;
use crate::release::Generation;
use crate::router::{Router, Upstream};

/// How soon an app that refused a connection is asked again.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What all requests of a worker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) router: Arc<Router>,
    pub(super) pool: Rc<Pool>,
    pub(super) leftovers: Leftovers,
    pub(super) limits: RequestLimits,
    pub(super) forwarded: Forwarded,
    pub(super) shutdown_request: Option<ShutdownRequest>,
    pub(super) user_tokens: Option<Arc<dyn UserTokens>>,
    pub(super) tally: Option<Tally>,
    pub(super) recorder: Option<Rc<Recorder>>,
    pub(super) request_ids: Option<RequestIds>,
}

/// What a request may need.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of its target.
    pub max_target: usize,
    /// For an app that refuses connections, though it has not been seen to end.
    pub hold_timeout: Duration,
}

/// Forwards the requests of one client connection.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    shared: Rc<Shared>,
    client: Rc<Client>,
}

/// An answer in the making.
type Responding = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>>>>;

/// One client's connection, for as long as it or a tunnel from it is open.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) stream: Stream,
    pub(super) activity: Arc<Activity>,
    pub(super) _open: Open,
}

// === impl Client ===

impl Client {
    /// The answer is complete.
    pub(super) fn answered(&self) {
        self.activity.begin(Doing::Idle);
    }

    /// What comes next does not look like the end of an answer.
    pub(super) fn sees_a_failure(&self) {
        self.stream.reset_on_close();
    }
}

// === impl Forward ===

impl Forward {
    pub(super) fn new(shared: Rc<Shared>, client: Rc<Client>) -> Self {
        Self { shared, client }
    }

    /// What can be done at once is done before the future is made: it would else be three times as
    /// large, with a place for each of the request's shapes on the way.
    fn respond(&self, mut request: Request<Incoming>) -> Responding {
        let Self { shared, client } = self.clone();
        client.activity.begin(Doing::Request);
        // Before the fields that name it end here; it ends with the request, whoever answers that.
        let user = Taken::from(request.headers(), shared.user_tokens.as_ref());
        let mut followed = Followed::begin(&mut request, &shared, &client);
        if let Some(answer) = shared.own_answer(&request) {
            client.answered();
            return Box::pin(ready(Ok(shared.last_touch(answer, &followed))));
        }
        let mut asked = match Asked::by(request, user, &shared, &client) {
            Ok(asked) => asked,
            Err(refusal) => {
                client.answered();
                let answer = refusal.into_response();
                return Box::pin(ready(Ok(shared.last_touch(answer, &followed))));
            }
        };
        Box::pin(async move {
            let answer = asked.forward(&shared, &client, &mut followed).await;
            let answer = match answer {
                Ok(response) => response,
                Err(error) => {
                    client.answered();
                    error.into_response()
                }
            };
            Ok(shared.last_touch(answer, &followed))
        })
    }
}

// === impl Shared ===

impl Shared {
    /// To what is not for the app.
    fn own_answer(&self, request: &Request<Incoming>) -> Option<Response<ResponseBody>> {
        let shutdown = self.shutdown_request.as_ref();
        if shutdown.is_some_and(|shutdown| shutdown.is(request)) {
            // As the platform expects it: understood, and nothing is done yet.
            return Some(bare(StatusCode::ACCEPTED));
        }
        if request.method() == Method::CONNECT {
            return Some(ForwardError::Connect.into_response());
        }
        match headers::forwards_left(request.method(), request.headers())? {
            0 if request.method() == Method::OPTIONS => Some(bare(StatusCode::NO_CONTENT)),
            0 => Some(ForwardError::TraceEndsHere.into_response()),
            1.. => None,
        }
    }

    fn last_touch(
        &self,
        mut answer: Response<ResponseBody>,
        followed: &Followed,
    ) -> Response<ResponseBody> {
        // A 101 has a Connection of its own, and ends the connection for HTTP anyway.
        if self.router.is_closing() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        followed.answered(&mut answer, self);
        answer
    }
}

impl tower::Service<Request<Incoming>> for Forward {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Responding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Whether there is an upstream is asked when there is a request: it waits for one.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Responding {
        self.respond(request)
    }
}

/// As [`tower::Service`], without an adapter's clone and future for each request.
impl hyper::service::Service<Request<Incoming>> for Forward {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Responding;

    fn call(&self, request: Request<Incoming>) -> Responding {
        self.respond(request)
    }
}

/// What a client asks, understood and made ready for the app.
struct Asked {
    outgoing: Outgoing,
    version: Version,
    /// Waited for only after the app has switched.
    upgrade: Option<OnUpgrade>,
    protocols: Option<HeaderValue>,
    user: Option<Taken>,
}

// === impl Asked ===

impl Asked {
    fn by(
        request: Request<Incoming>,
        user: Option<Taken>,
        shared: &Shared,
        client: &Client,
    ) -> Result<Self, ForwardError> {
        let target = request.uri().path_and_query();
        if target.is_some_and(|target| target.as_str().len() > shared.limits.max_target) {
            return Err(ForwardError::TargetTooLong);
        }
        let version = request.version();
        let (mut head, body) = request.into_parts();
        let upgrade = head.extensions.remove();
        let ToApp { asked, added } = headers::to_app(&mut head, &client.peer, shared.forwarded)
            .map_err(ForwardError::BadRequest)?;
        let body = RequestBody::new(body, client, &shared.leftovers);
        Ok(Self {
            outgoing: Outgoing::new(head, added, body),
            version,
            upgrade,
            protocols: asked,
            user,
        })
    }

    async fn forward(
        &mut self,
        shared: &Shared,
        client: &Rc<Client>,
        followed: &mut Followed,
    ) -> Result<Response<ResponseBody>, ForwardError> {
        let is_replayable = self.protocols.is_none() && self.outgoing.is_replayable();
        let (connection, upstream) = reach(shared, is_replayable).await?;
        followed.is_served_by(upstream.generation);
        if let Some(user) = &self.user {
            let told = user.for_app(&upstream);
            told.for_each(|(name, value)| self.outgoing.say(name, value));
        }
        let in_flight = InFlight {
            tunnel: None,
            upstream,
            pool: Rc::clone(&shared.pool),
            client: Rc::clone(client),
            access: followed.access.clone(),
        };
        let is_used = connection.is_used();
        let (head, receiving) = match self.outgoing.exchange(connection).await {
            Ok(answer) => answer,
            // The app closed an idle connection just when it was used.
            Err(Failure::Silent(_)) if is_used && is_replayable => {
                if let Some(tally) = &shared.tally {
                    tally.sends_again();
                }
                let again = Box::pin(send_again(&mut self.outgoing, &in_flight)).await;
                again.inspect_err(|error| in_flight.upstream.answered(error.is_apps()))?
            }
            Err(failure) => {
                if let Some(tally) = &shared.tally
                    && !is_replayable
                    && matches!(failure, Failure::Silent(_) | Failure::Broken(_))
                {
                    tally.is_unanswered();
                }
                let error = ForwardError::from(failure);
                in_flight.upstream.answered(error.is_apps());
                return Err(error);
            }
        };
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return answer(head, receiving, in_flight, self.version);
        }
        match (self.upgrade.take(), &self.protocols) {
            (Some(upgrade), Some(asked)) => switch(head, receiving, in_flight, upgrade, asked),
            (Some(_), None) | (None, _) => {
                in_flight.upstream.answered(true);
                Err(ForwardError::Upgrade)
            }
        }
    }
}

/// Sends a request again on a new connection: to the same instance only. If that is gone, the
/// request may be what ended it.
async fn send_again(
    request: &mut Outgoing,
    in_flight: &InFlight,
) -> Result<(Head, Receiving), ForwardError> {
    let connection = in_flight.pool.connect(&in_flight.upstream).await;
    let connection = connection.map_err(ForwardError::of_connect)?;
    Ok(request.exchange(connection).await?)
}

/// A connection to the active upstream. Nothing has been sent: while it cannot be reached, the
/// request may wait for another one, or for this one to come back.
async fn reach(
    shared: &Shared,
    is_replayable: bool,
) -> Result<(Box<Connection>, Arc<Upstream>), ForwardError> {
    let upstream = match shared.router.acquire() {
        Some(upstream) => upstream,
        None => Box::pin(shared.router.acquire_or_hold(None)).await?,
    };
    match shared.pool.take(&upstream, is_replayable) {
        Some(connection) => Ok((connection, upstream)),
        // What is rare is boxed: the future of every request would be as large as all of this.
        None => Box::pin(connect(shared, upstream)).await,
    }
}

async fn connect(
    shared: &Shared,
    mut upstream: Arc<Upstream>,
) -> Result<(Box<Connection>, Arc<Upstream>), ForwardError> {
    let first_try = Instant::now();
    loop {
        match shared.pool.connect(&upstream).await {
            Ok(connection) => return Ok((connection, upstream)),
            // Whoever does not even refuse has been waited for long enough, unless another is there.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let another = shared.router.acquire();
                let another = another.filter(|other| other.generation != upstream.generation);
                upstream = another.ok_or_else(|| {
                    upstream.answered(true);
                    ForwardError::ConnectTimeout
                })?;
            }
            Err(error) if first_try.elapsed() >= shared.limits.hold_timeout => {
                upstream.answered(true);
                return Err(ForwardError::of_connect(error));
            }
            Err(_) => {
                if let Some(tally) = &shared.tally {
                    tally.was_refused();
                }
                let unreachable = upstream.generation;
                // Who waits for another one keeps nothing of this one in flight.
                drop(upstream);
                upstream = another_or_later(shared, unreachable).await?;
            }
        }
    }
}

/// Another upstream than the one that could not be reached, or that one again after a pause: it may
/// just have crashed, and nobody has noticed yet.
async fn another_or_later(
    shared: &Shared,
    unreachable: Generation,
) -> Result<Arc<Upstream>, ForwardError> {
    let another = shared.router.acquire_or_hold(Some(unreachable));
    match tokio::time::timeout(REFUSED_PAUSE, another).await {
        Ok(upstream) => Ok(upstream?),
        Err(_elapsed) => Ok(shared.router.acquire_or_hold(None).await?),
    }
}

fn answer(
    mut head: Head,
    receiving: Receiving,
    mut in_flight: InFlight,
    version: Version,
) -> Result<Response<ResponseBody>, ForwardError> {
    // It has to say what to upgrade to (RFC 9110, section 15.5.22).
    let names_protocols = head.status == StatusCode::UPGRADE_REQUIRED;
    let passes = headers::to_client(&mut head.headers, head.present, names_protocols);
    let is_error = passes.is_err() || head.status.is_server_error();
    in_flight.upstream.answered(is_error);
    passes.map_err(ForwardError::BadAnswer)?;
    if version == Version::HTTP_10 && receiving.remaining().is_none() {
        // Only the end of the connection ends it, and hyper says keep-alive to who asked for that.
        let close = HeaderValue::from_static("close");
        head.headers.insert(header::CONNECTION, close);
    }
    if headers::is_event_stream(&head.headers) {
        receiving.connection.member.is_tunnel();
        in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
    }
    Ok(response(head, ResponseBody::app(receiving, in_flight)))
}

fn switch(
    mut head: Head,
    receiving: Receiving,
    mut in_flight: InFlight,
    client: OnUpgrade,
    asked: &HeaderValue,
) -> Result<Response<ResponseBody>, ForwardError> {
    let protocol = headers::switched_to(&head.headers, asked);
    let passes = headers::to_client(&mut head.headers, head.present, true);
    let is_error = protocol.is_none() || passes.is_err();
    in_flight.upstream.answered(is_error);
    passes.map_err(ForwardError::BadAnswer)?;
    let protocol = protocol.ok_or(ForwardError::Upgrade)?;
    in_flight.client.activity.begin(Doing::Tunnel);
    in_flight.tunnel = Some(in_flight.upstream.mark_tunnel());
    tunnel(client, *receiving.connection, in_flight, &protocol);
    Ok(response(head, ResponseBody::Empty))
}

fn bare(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    response
}

fn response(head: Head, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    response
}
