//! The public port: kept by an anchor, passed by the service manager, or bound.

use std::net::SocketAddr;
use std::time::Duration;

use humantime::format_duration;
use tokio::time::{Instant, sleep};

use super::{Anchored, AppError};
use crate::data_plane::Listener;
use crate::os::listening::describe_refusal;
use crate::os::service_manager::passed_listener;

/// Maximum time for which a predecessor may still have the port.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// Takes the socket that the anchor has kept or the service manager passed, or binds the public
/// address.
pub(super) async fn open(
    address: SocketAddr,
    anchored: Option<&mut Anchored>,
) -> Result<Listener, AppError> {
    let Some(anchored) = anchored else {
        return open_without_anchor(address).await;
    };
    if let Some(kept) = anchored.listener.take() {
        return Listener::from_inherited(kept).map_err(AppError::Passed);
    }
    let listener = open_without_anchor(address).await?;
    let kept = anchored.anchor.keep_listener(listener.socket());
    kept.map_err(AppError::Anchor)?;
    Ok(listener)
}

async fn open_without_anchor(address: SocketAddr) -> Result<Listener, AppError> {
    match passed_listener().map_err(AppError::Passed)? {
        Some(passed) => Listener::from_inherited(passed).map_err(AppError::Passed),
        None => bind(address).await,
    }
}

async fn bind(address: SocketAddr) -> Result<Listener, AppError> {
    let deadline = Instant::now() + BIND_TIMEOUT;
    let mut is_logged = false;
    loop {
        match Listener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if Listener::is_taken(&error) && Instant::now() < deadline => {
                if !std::mem::replace(&mut is_logged, true) {
                    tracing::warn!(
                        event = "port_in_use",
                        %address,
                        timeout = %format_duration(BIND_TIMEOUT),
                        "the public port is in use: waiting for its release"
                    );
                }
                sleep(BIND_PAUSE).await;
            }
            Err(source) => {
                return Err(AppError::Bind {
                    address,
                    by: describe_refusal(address, &source),
                    source,
                });
            }
        }
    }
}
