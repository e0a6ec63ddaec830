//! Tunnels: connections whose protocol was switched, copied both ways until both sides have ended.

use std::io::{self, Cursor};
use std::rc::Rc;

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::pool::{Connection, ConnectionHandle};
use super::response_body::InFlight;
use super::stream::Stream;
use super::websocket::{self, FrameTracker, Sender};

const BUFFER: usize = 8 * 1024;

/// One direction of a tunnel.
struct Direction {
    /// The position in the stream of frames, if the tunnel is a WebSocket.
    frames: Option<FrameTracker>,
    sender: Sender,
}

/// Starts a tunnel between a client and the app, once both have switched to `protocol`.
///
/// It is in flight until it ends, and is cut with its class. When a WebSocket is to close, both
/// sides get a close frame of status 1001.
pub(super) fn spawn_tunnel(
    client: OnUpgrade,
    app: Connection,
    in_flight: InFlight,
    protocol: &HeaderValue,
) {
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let handle = Rc::clone(&app.handle);
    handle.mark_tunnel();
    let streams = [in_flight.client.stream.clone(), app.stream.clone()];
    tokio::task::spawn_local(async move {
        // The client may have left before it has switched.
        let Ok(client) = client.await else {
            return;
        };
        let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
        let direction = |sender| Direction {
            frames: is_websocket.then(FrameTracker::default),
            sender,
        };
        // Bytes that came with the head of the response are the first of the tunnel.
        let from_app = Cursor::new(app.received).chain(app.stream.clone());
        let copied = async {
            tokio::try_join!(
                direction(Sender::Client).copy(from_client, app.stream, &handle),
                direction(Sender::Server).copy(from_app, to_client, &handle),
            )
        };
        tokio::select! {
            copied = copied => if let Err(error) = copied {
                tracing::debug!(event = "tunnel_failed", %error, "a tunnel ended early");
                // Neither side may take this for a regular end.
                streams.iter().for_each(Stream::reset_on_close);
            },
            () = handle.wait_until_cut() => {}
        }
        drop(in_flight);
    });
}

// === impl Direction ===

impl Direction {
    /// Copies until the end of the stream, and closes the other side then.
    async fn copy(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        handle: &ConnectionHandle,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.frames.is_some_and(|frames| frames.is_at_boundary()) && handle.is_closing() {
                to.write_all(&websocket::going_away(self.sender)).await?;
                to.shutdown().await?;
                // The peer's own close frame is still to come. Unread bytes would reset the
                // connection, and destroy what the peer has not read yet.
                while from.read(&mut buffer).await? > 0 {}
                return Ok(());
            }
            let read = tokio::select! {
                read = from.read(&mut buffer) => read?,
                () = handle.wait_until_closing(), if !handle.is_closing() => continue,
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
                if handle.is_closing() && self.frames.is_some_and(|f| f.is_at_boundary()) {
                    break;
                }
            }
            to.flush().await?;
        }
    }
}
