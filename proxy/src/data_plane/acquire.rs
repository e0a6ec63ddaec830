//! The upstream of a request, and a connection to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bound::BoundConnection;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::pool::{Connection, IdleCheck};
use crate::release::Generation;
use crate::router::{ResponseOutcome, Upstream};

/// Pause before a new connection to an app that refused one.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Returns the upstream that a request has to reach, and an idle connection to it, if there is one:
/// `bound`, which is the client's own, or one of the pool. Without an upstream the request is held.
///
/// Nothing of a request is sent before it has a connection: while no upstream can be reached, it
/// waits for one.
pub(super) async fn find_idle(
    context: &ForwardContext,
    bound: Option<Box<BoundConnection>>,
    active: Option<Arc<Upstream>>,
    check: IdleCheck,
) -> Result<(Option<Box<Connection>>, Arc<Upstream>), ForwardError> {
    let mut bound = bound;
    let login = bound.as_mut().and_then(|bound| bound.take_login());
    let upstream = match login.or(active) {
        Some(upstream) => upstream,
        None => context.router.acquire_or_hold(None).await?,
    };
    let own = bound.and_then(|bound| bound.into_connection(&upstream));
    let idle = own.or_else(|| context.pool.take(&upstream, check));
    Ok((idle, upstream))
}

/// Connects to the upstream, or to another one while that cannot be reached.
pub(super) async fn connect_with_retries(
    context: &ForwardContext,
    mut upstream: Arc<Upstream>,
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
                upstream = acquire_another(context, unreachable).await?;
            }
        }
    }
}

/// Returns another upstream than the one that could not be reached, or that one again after a pause:
/// it may have crashed so recently that no other part has noticed yet.
async fn acquire_another(
    context: &ForwardContext,
    unreachable: Generation,
) -> Result<Arc<Upstream>, ForwardError> {
    let another = context.router.acquire_or_hold(Some(unreachable));
    match tokio::time::timeout(REFUSED_PAUSE, another).await {
        Ok(upstream) => Ok(upstream?),
        Err(_elapsed) => Ok(context.router.acquire_or_hold(None).await?),
    }
}
