//! The rare ways to an upstream: by the client's own connection, while there is none, while a release
//! is staged, and after a failed connection.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bound::BoundConnection;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::exchange::{ExchangeError, OutgoingRequest, ResponseReader};
use super::pool::{AppConnection, Connection, IdleCheck};
use super::response_body::InFlight;
use super::tester_field::PREVIEW;
use super::wire::Head;
use crate::release::Generation;
use crate::router::{HoldError, ResponseOutcome, Upstream};

/// Pause before a new connection to an app that refused one.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Returns the upstream that a request has to reach, and an idle connection to it, if there is one:
/// `bound`, which is the client's own, or one of the pool.
///
/// Nothing of a request is sent before it has a connection: while no upstream can be reached, it
/// waits for one.
pub(super) async fn find_idle(
    context: &ForwardContext,
    request: &mut OutgoingRequest,
    client: Option<IpAddr>,
    mut bound: Option<Box<BoundConnection>>,
    active: Option<Arc<Upstream>>,
    check: IdleCheck,
) -> Result<(Option<Box<Connection>>, Arc<Upstream>), HoldError> {
    let login = bound.as_mut().and_then(|bound| bound.take_login());
    // A login that has begun is no way past a maintenance.
    let login = login.filter(|_| context.router.maintenance().is_none());
    let upstream = match login.or(active) {
        Some(upstream) => upstream,
        None => acquire_off_path(context, request, client).await?,
    };
    let own = bound.and_then(|bound| bound.into_connection(&upstream));
    let idle = own.or_else(|| context.pool.take(&upstream, check));
    Ok((idle, upstream))
}

/// Returns the upstream of a staged release, if the request has its token, or the active one, and
/// waits for one while there is none.
async fn acquire_off_path(
    context: &ForwardContext,
    request: &mut OutgoingRequest,
    client: Option<IpAddr>,
) -> Result<Arc<Upstream>, HoldError> {
    let token = request.headers_mut().remove(&PREVIEW);
    let staged = token.and_then(|token| context.router.acquire_preview(token.as_bytes()));
    match staged {
        Some(staged) => Ok(staged),
        None => context.router.acquire_or_hold(None, client).await,
    }
}

/// Connects to the upstream, or to another one while that cannot be reached.
pub(super) async fn connect_with_retries(
    context: &ForwardContext,
    mut upstream: Arc<Upstream>,
    client: impl Fn() -> Option<IpAddr>,
) -> Result<(AppConnection, Arc<Upstream>), ForwardError> {
    let first_try = Instant::now();
    loop {
        match context.pool.connect(&upstream).await {
            Ok(connection) => return Ok((connection, upstream)),
            // The connect timeout has passed: only another upstream is worth a new try.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let another = context.router.acquire_active();
                let another = another.filter(|other| other.generation != upstream.generation);
                upstream = another.ok_or_else(|| {
                    upstream.count_response(ResponseOutcome::AppFault);
                    ForwardError::ConnectTimeout
                })?;
            }
            Err(error) if first_try.elapsed() >= context.limits.hold_timeout => {
                upstream.count_response(ResponseOutcome::AppFault);
                return Err(ForwardError::from_connect(error));
            }
            Err(_) => {
                if let Some(counters) = &context.counters {
                    counters.count_refused();
                }
                let unreachable = upstream.generation;
                // While the request waits for another upstream, it is not in flight to this one.
                drop(upstream);
                upstream = acquire_another(context, unreachable, client()).await?;
            }
        }
    }
}

/// Returns another upstream than the one that could not be reached, or that one again after a pause:
/// it may have crashed so recently that no other part has noticed yet.
async fn acquire_another(
    context: &ForwardContext,
    unreachable: Generation,
    client: Option<IpAddr>,
) -> Result<Arc<Upstream>, ForwardError> {
    let another = context.router.acquire_or_hold(Some(unreachable), client);
    match tokio::time::timeout(REFUSED_PAUSE, another).await {
        Ok(upstream) => Ok(upstream?),
        Err(_elapsed) => Ok(context.router.acquire_or_hold(None, client).await?),
    }
}

/// Sends a request again on a new connection, only to the same instance: if that has ended, this
/// request may be the cause.
pub(super) async fn retry(
    request: &mut OutgoingRequest,
    in_flight: &InFlight,
) -> Result<(Head, ResponseReader), ForwardError> {
    let connection = in_flight.pool.connect_http1(&in_flight.upstream).await;
    let connection = connection.map_err(ForwardError::from_connect)?;
    Ok(request.exchange(connection).await?)
}

/// Counts a request that has no answer, and returns its error.
pub(super) fn give_up(
    context: &ForwardContext,
    upstream: &Upstream,
    error: ExchangeError,
    is_replayable: bool,
) -> ForwardError {
    if matches!(
        error,
        ExchangeError::NoResponse(_) | ExchangeError::PartialHead(_)
    ) {
        upstream.unanswered().count();
        if let Some(counters) = &context.counters
            && !is_replayable
        {
            counters.count_unanswered();
        }
    }
    let error = ForwardError::from(error);
    upstream.count_response(error.outcome());
    error
}
