//! Upgraded connections: bytes both ways until both sides have ended.

use std::io::{self, Cursor};
use std::rc::Rc;

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::body::InFlight;
use super::pool::{Connection, Member};
use super::stream::Stream;
use super::websocket::{self, Frames};

const BUFFER: usize = 8 * 1024;

/// One direction of a tunnel.
struct Direction {
    /// Where frames end, if it is a WebSocket.
    frames: Option<Frames>,
    is_from_client: bool,
}

/// Starts a tunnel between a client and the app, once both have switched to `protocol`.
///
/// It is in flight until it ends, and is cut with its class. A WebSocket that is asked to close gets
/// a close frame of status 1001, both ways.
pub(super) fn tunnel(
    client: OnUpgrade,
    app: Connection,
    in_flight: InFlight,
    protocol: &HeaderValue,
) {
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let member = Rc::clone(&app.member);
    member.is_tunnel();
    let streams = [in_flight.client.stream.clone(), app.stream.clone()];
    tokio::task::spawn_local(async move {
        // The client may be gone before it has switched.
        let Ok(client) = client.await else {
            return;
        };
        let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
        let direction = |is_from_client| Direction {
            frames: is_websocket.then(Frames::default),
            is_from_client,
        };
        // Bytes that came with the head of the answer are the first of the tunnel.
        let from_app = Cursor::new(app.received).chain(app.stream.clone());
        let copied = async {
            tokio::try_join!(
                direction(true).copy(from_client, app.stream, &member),
                direction(false).copy(from_app, to_client, &member),
            )
        };
        tokio::select! {
            copied = copied => if let Err(error) = copied {
                tracing::debug!(%error, "a tunnel ended early");
                // Neither side may take this for the other's end of file.
                streams.iter().for_each(Stream::reset_on_close);
            },
            () = member.until_cut() => {}
        }
        drop(in_flight);
    });
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
