//! Upgraded connections: bytes both ways until both sides have ended.

use std::rc::Rc;
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::oneshot;

use super::forward::Client;
use super::pool::Pool;
use crate::router::{Class, Upstream};

/// Starts a tunnel between a client and the app, once both have switched protocols.
///
/// It holds its upstream and its client's connection until it ends, and is cut with its class.
pub(super) fn tunnel(
    client: OnUpgrade,
    app: OnUpgrade,
    in_flight: (Arc<Upstream>, Rc<Client>),
    pool: &Pool,
) {
    let generation = in_flight.0.generation;
    let (admit, admitted) = oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        let _in_flight = in_flight;
        let _member = admitted.await;
        // Either side may be gone before it has switched.
        if let (Ok(client), Ok(app)) = tokio::join!(client, app) {
            let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
            if let Err(error) = copy_bidirectional(&mut client, &mut app).await {
                tracing::debug!(%generation, %error, "a tunnel was cut");
            }
        }
    });
    let member = pool.admit(generation, Class::Tunnel, task.abort_handle());
    // The task waits for it.
    let _ = admit.send(member);
}
