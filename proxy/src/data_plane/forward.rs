//! One request: acquire, rewrite, send, stream back.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::activity::{Activity, Doing};
use super::body::{InFlight, Leftovers, RequestBody, ResponseBody};
use super::error::ForwardError;
use super::headers::{self, Forwarded, Peer};
use super::pool::{Connection, Pool};
use super::stream::Stream;
use super::upgrade::tunnel;
use super::worker::Open;
use crate::release::Generation;
use crate::router::{Router, Upstream};

/// How often a request that no connection took is given to another one.
const UNSENT_TRIES: u32 = 3;
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
    /// Every answer closes its connection.
    pub(super) is_closing: Cell<bool>,
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

    fn respond(&self, request: Request<Incoming>) -> Responding {
        let Self { shared, client } = self.clone();
        client.activity.begin(Doing::Request);
        Box::pin(async move {
            let mut response = match forward(&shared, &client, request).await {
                Ok(response) => response,
                Err(error) => {
                    client.answered();
                    error.into_response()
                }
            };
            if shared.is_closing.get() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response)
        })
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

async fn forward(
    shared: &Shared,
    client: &Rc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ForwardError> {
    if request.method() == Method::CONNECT {
        return Err(ForwardError::Connect);
    }
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > shared.limits.max_target) {
        return Err(ForwardError::TargetTooLong);
    }
    // Taken before the head changes; waited for only after the app has switched.
    let client_upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let asked = headers::to_app(&mut head, &client.peer, shared.forwarded)
        .map_err(ForwardError::BadRequest)?;
    let request = Request::from_parts(head, RequestBody::new(body, &shared.leftovers));
    let (response, in_flight) = send(shared, request, asked.is_some()).await?;
    match asked {
        Some(asked) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            switch(response, in_flight, client, client_upgrade, &asked)
        }
        _ if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(ForwardError::Upgrade),
        _ => Ok(answer(response, in_flight, Rc::clone(client))),
    }
}

/// Sends the request to the active upstream, again where that cannot do any harm.
async fn send(
    shared: &Shared,
    mut request: Request<RequestBody>,
    is_upgrade: bool,
) -> Result<(Response<Incoming>, InFlight), ForwardError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let is_replayable = !is_upgrade
            && request.method().is_idempotent()
            && matches!(request.body(), RequestBody::Empty);
        let (mut connection, upstream) = reach(shared, is_replayable).await?;
        let spare = (is_replayable && connection.is_used()).then(|| copy(&request));
        let mut failed = match connection.send(request).await {
            Ok(response) => return Ok((response, in_flight(shared, connection, upstream))),
            Err(failed) => failed,
        };
        if tries < UNSENT_TRIES
            && let Some(unsent) = failed.take_message()
        {
            request = unsent;
            continue;
        }
        let Some(spare) = spare.filter(|_| is_lost(failed.error())) else {
            return Err(why(failed, &connection, &upstream));
        };
        return Box::pin(send_again(shared, spare, upstream))
            .await
            .map_err(|upstream| why(failed, &connection, &upstream));
    }
}

/// The app closed an idle connection just when it was used. Again to this instance only: if it is
/// gone, the request may be what ended it.
async fn send_again(
    shared: &Shared,
    request: Request<RequestBody>,
    upstream: Arc<Upstream>,
) -> Result<(Response<Incoming>, InFlight), Arc<Upstream>> {
    let Ok(mut connection) = shared.pool.connect(&upstream).await else {
        return Err(upstream);
    };
    match connection.send(request).await {
        Ok(response) => Ok((response, in_flight(shared, connection, upstream))),
        Err(_) => Err(upstream),
    }
}

/// A connection to the active upstream. Nothing has been sent: while it cannot be reached, the
/// request may wait for another one, or for this one to come back.
async fn reach(
    shared: &Shared,
    is_replayable: bool,
) -> Result<(Connection, Arc<Upstream>), ForwardError> {
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
) -> Result<(Connection, Arc<Upstream>), ForwardError> {
    let first_try = Instant::now();
    loop {
        match shared.pool.connect(&upstream).await {
            Ok(connection) => return Ok((connection, upstream)),
            Err(error) if first_try.elapsed() >= shared.limits.hold_timeout => {
                return Err(ForwardError::Unreachable(error));
            }
            Err(_) => upstream = another_or_later(shared, upstream.generation).await?,
        }
    }
}

fn in_flight(shared: &Shared, connection: Connection, upstream: Arc<Upstream>) -> InFlight {
    InFlight {
        connection: Some(connection),
        pool: Rc::clone(&shared.pool),
        upstream,
    }
}

fn why(
    failed: TrySendError<Request<RequestBody>>,
    connection: &Connection,
    upstream: &Upstream,
) -> ForwardError {
    if connection.has_timed_out() {
        ForwardError::Timeout
    } else if upstream.evicted() {
        ForwardError::Evicted
    } else {
        ForwardError::Lost(failed.into_error())
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

/// A copy to send if a used connection turns out to be closed: of what may be done twice (RFC 9110,
/// section 9.2.2) and has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether the connection ended before any byte of an answer.
fn is_lost(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    let io = error
        .source()
        .and_then(|e| e.downcast_ref::<std::io::Error>());
    error.is_incomplete_message()
        || error.is_canceled()
        || io.is_some_and(|error| {
            matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset
            )
        })
}

fn answer(
    response: Response<Incoming>,
    in_flight: InFlight,
    client: Rc<Client>,
) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    headers::to_client(&mut head, false);
    if headers::is_event_stream(&head.headers)
        && let Some(connection) = &in_flight.connection
    {
        connection.is_tunnel();
    }
    let body = ResponseBody::app(body, in_flight, client);
    Response::from_parts(head, body)
}

fn switch(
    mut response: Response<Incoming>,
    in_flight: InFlight,
    client: &Rc<Client>,
    client_upgrade: OnUpgrade,
    asked: &HeaderValue,
) -> Result<Response<ResponseBody>, ForwardError> {
    if !is_asked(response.headers(), asked) {
        return Err(ForwardError::Upgrade);
    }
    let app = hyper::upgrade::on(&mut response);
    let InFlight { upstream, pool, .. } = in_flight;
    let in_flight = (upstream, Rc::clone(client));
    tunnel(client_upgrade, app, in_flight, asked, &pool);
    let (mut head, _no_body) = response.into_parts();
    headers::to_client(&mut head, true);
    Ok(Response::from_parts(head, ResponseBody::Empty))
}

/// Whether the protocol that the app switched to is among those that were asked for.
fn is_asked(answer: &HeaderMap, asked: &HeaderValue) -> bool {
    let tokens = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        text.split(',')
            .map(|token| token.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let asked = tokens(asked);
    let answered = answer.get(header::UPGRADE).map(tokens).unwrap_or_default();
    !answered.is_empty() && answered.iter().all(|token| asked.contains(token))
}
