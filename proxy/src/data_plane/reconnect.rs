//! New connections to an app that may have just crashed.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::ForwardContext;
use super::error::ForwardError;
use super::exchange::{OutgoingRequest, ResponseReader};
use super::pool::Connection;
use super::response_body::InFlight;
use super::wire::Head;
use crate::release::Generation;
use crate::router::{ResponseOutcome, Upstream};

/// Pause before a new connection to an app that refused one.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Returns a connection to `upstream`, or to another one that can be reached; `client` tells who
/// waits for it.
///
/// # Errors
/// When nothing can be reached in time.
pub(super) async fn connect_with_retries(
    context: &ForwardContext,
    mut upstream: Arc<Upstream>,
    client: impl Fn() -> Option<IpAddr>,
) -> Result<(Box<Connection>, Arc<Upstream>), ForwardError> {
    let first_try = Instant::now();
    loop {
        match context.pool.connect(&upstream).await {
            Ok(connection) => return Ok((connection, upstream)),
            // The connect timeout has passed: only another upstream is worth a new try.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let another = context.router.acquire();
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
    let connection = in_flight.pool.connect(&in_flight.upstream).await;
    let connection = connection.map_err(ForwardError::from_connect)?;
    Ok(request.exchange(connection).await?)
}
