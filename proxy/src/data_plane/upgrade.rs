//! Upgraded connections: bytes both ways until both sides have ended.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::forward::Client;
use super::pool::{Member, Pool};
use super::websocket::{self, Frames};
use crate::router::{Class, Upstream};

const BUFFER: usize = 8 * 1024;

/// One direction of a tunnel.
struct Direction {
    /// Where frames end, if it is a WebSocket.
    frames: Option<Frames>,
    is_from_client: bool,
}

/// Starts a tunnel between a client and the app, once both have switched protocols.
///
/// It holds its upstream and its client's connection until it ends, and is cut with its class. A
/// WebSocket that is asked to close gets a close frame of status 1001, both ways.
pub(super) fn tunnel(
    client: OnUpgrade,
    app: OnUpgrade,
    in_flight: (Arc<Upstream>, Rc<Client>),
    protocol: &HeaderValue,
    pool: &Pool,
) {
    let generation = in_flight.0.generation;
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let (admit, admitted) = oneshot::channel::<Rc<Member>>();
    let task = tokio::task::spawn_local(async move {
        let _in_flight = in_flight;
        let Ok(member) = admitted.await else {
            return;
        };
        // Either side may be gone before it has switched.
        let (Ok(client), Ok(app)) = tokio::join!(client, app) else {
            return;
        };
        let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
        let (from_app, to_app) = tokio::io::split(TokioIo::new(app));
        let direction = |is_from_client| Direction {
            frames: is_websocket.then(Frames::default),
            is_from_client,
        };
        let copied = tokio::try_join!(
            direction(true).copy(from_client, to_app, &member),
            direction(false).copy(from_app, to_client, &member),
        );
        if let Err(error) = copied {
            tracing::debug!(%generation, %error, "a tunnel was cut");
        }
    });
    let member = pool.admit(generation, Class::Tunnel, task.abort_handle());
    // The task waits for it.
    let _ = admit.send(member);
}

// === impl Direction ===

impl Direction {
    /// Copies until the end, and passes that on.
    async fn copy(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        member: &Member,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.frames.is_some_and(|frames| frames.is_between()) && member.is_closing() {
                to.write_all(&websocket::going_away(self.is_from_client))
                    .await?;
                to.shutdown().await?;
                // The peer's own close frame is still on its way; bytes that nobody reads would
                // reset the connection, and with it what it has not read yet.
                while from.read(&mut buffer).await? > 0 {}
                return Ok(());
            }
            let read = tokio::select! {
                read = from.read(&mut buffer) => read?,
                () = member.closing(), if !member.is_closing() => continue,
            };
            if read == 0 {
                return to.shutdown().await;
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let taken = match &mut self.frames {
                    Some(frames) => frames.advance(rest),
                    None => rest.len(),
                };
                let (frame, after) = rest.split_at(taken);
                to.write_all(frame).await?;
                rest = after;
                if member.is_closing() && self.frames.is_some_and(|f| f.is_between()) {
                    break;
                }
            }
            to.flush().await?;
        }
    }
}
