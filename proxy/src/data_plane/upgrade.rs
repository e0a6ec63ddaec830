//! Tunnels: connections whose protocol was switched, copied both ways until both sides have ended.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Cursor};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderValue;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Chain, ReadBuf};

use super::activity::{Activity, ClientState};
use super::client_streams::OpenStream;
use super::exchange::{ResponseReader, UploadTask};
use super::pool::{Connection, ConnectionHandle};
use super::response_body::InFlight;
use super::stream::Stream;
use super::websocket::{self, FrameTracker, Sender};

/// Maximum number of bytes that are read, and sent on, at a time.
const BUFFER: usize = 8 * 1024;
/// Number of bytes after which a tunnel lets other connections of its worker go on. Many tunnels can
/// be ready at once, each with little: a request beside them waits for a turn of each, several times.
const TUNNEL_TURN: u32 = 16 * 1024;

thread_local! {
    /// The buffer of all tunnels of a worker: only what was received is kept for one, until it is sent.
    static BUFFER_OF_ALL: RefCell<[u8; BUFFER]> = const { RefCell::new([0; BUFFER]) };
}

/// The app's end of a tunnel: what is read from it, and what is written to it.
pub(super) struct AppEnd<R, W> {
    pub(super) from_app: R,
    pub(super) to_app: W,
    pub(super) handle: Rc<ConnectionHandle>,
    /// The rest of the request, which comes before the new protocol.
    pub(super) upload: Option<UploadTask>,
    /// The socket, if no other request is on it. What a stream has not sent to the end is reset without.
    pub(super) socket: Option<Stream>,
}

/// One direction of a tunnel.
struct Direction {
    /// The position in the stream of frames, if the tunnel is a WebSocket.
    frames: Option<FrameTracker>,
    sender: Sender,
    /// Status of the close frame when it is to close.
    close_code: u16,
    /// The client's stream, if it is one of many on a connection.
    stream: Option<Rc<OpenStream>>,
}

/// The client's end of a tunnel.
struct StreamIo {
    io: TokioIo<Upgraded>,
    /// The record of what a stream of many on a connection waits for; a connection keeps its own.
    activity: Option<Arc<Activity>>,
}

/// Starts a tunnel between a client and the app, once both have switched to `protocol`.
///
/// It is in flight until it ends, and is cut with its class. When a WebSocket is to close, both
/// sides get a close frame of status `close_code`.
pub(super) fn spawn_tunnel<R, W>(
    client: OnUpgrade,
    app: AppEnd<R, W>,
    in_flight: InFlight,
    protocol: &HeaderValue,
    close_code: u16,
) where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let is_websocket = websocket::is_protocol(protocol);
    app.handle.mark_tunnel();
    let end = Rc::clone(&in_flight.client);
    tokio::task::spawn_local(async move {
        let AppEnd {
            from_app,
            to_app,
            handle,
            upload,
            socket,
        } = app;
        let reset = || {
            end.stream.reset_on_close();
            socket.iter().for_each(Stream::reset_on_close);
        };
        let Some(client) = complete_request(client, upload, &handle).await else {
            return reset();
        };
        let client = StreamIo {
            io: TokioIo::new(client),
            activity: end.open.stream().map(|_| Arc::clone(&end.activity)),
        };
        let (from_client, to_client) = tokio::io::split(client);
        let direction = |sender| Direction {
            frames: is_websocket.then(FrameTracker::default),
            sender,
            close_code,
            stream: end.open.stream().cloned(),
        };
        let mut copied = pin!(async {
            let to_client = async {
                direction(Sender::Server)
                    .copy(from_app, to_client, &handle)
                    .await?;
                end.activity.enter(ClientState::EndingTunnel);
                Ok(())
            };
            let to_app = direction(Sender::Client).copy(from_client, to_app, &handle);
            tokio::try_join!(to_app, to_client)
        });
        let mut tracking = None;
        let copied = poll_fn(|cx| {
            if tracking.is_none() {
                tracking = Some(end.track(cx.waker()));
            }
            if end.activity.is_close_requested() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            end.activity.begin_turn(TUNNEL_TURN);
            copied.as_mut().poll(cx)
        });
        tokio::select! {
            copied = copied => if let Err(error) = copied {
                tracing::debug!(event = "tunnel_failed", %error, "a tunnel ended early");
                // Neither side may take this for a regular end.
                reset();
            },
            () = handle.wait_until_cut() => {}
        }
        drop(in_flight);
    });
}

/// Returns the client's connection once the whole request has been sent: the rest of its body comes
/// before the new protocol (RFC 9110, section 7.8).
async fn complete_request(
    client: OnUpgrade,
    upload: Option<UploadTask>,
    handle: &ConnectionHandle,
) -> Option<Upgraded> {
    let complete = async {
        // hyper hands the connection over at the end of the body. The client may leave before.
        let client = client.await.ok()?;
        let is_sent = match upload {
            Some(upload) => upload.finish().await,
            None => true,
        };
        is_sent.then_some(client)
    };
    tokio::select! {
        client = complete => client,
        () = handle.wait_until_cut() => None,
    }
}

/// Receives some bytes; none at the end of the stream. Meanwhile it holds no memory.
async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        BUFFER_OF_ALL.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().to_vec()))
        })
    })
    .await
}

// === impl StreamIo ===

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if let Some(activity) = &self.activity {
            if polled.is_pending() {
                activity.await_bytes();
            } else {
                activity.record_read(buffer.filled().len() - before);
            }
        }
        polled
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Some(activity) = &self.activity {
            activity.record_write(match &polled {
                Poll::Ready(Ok(length)) => *length,
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            });
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        if let Some(activity) = &self.activity {
            activity.record_flush(polled.is_pending());
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

// === impl AppEnd ===

impl AppEnd<Chain<Cursor<Vec<u8>>, Stream>, Stream> {
    /// Returns the end of a connection that is no longer one of HTTP.
    pub(super) fn of_connection(reader: ResponseReader) -> Self {
        let (connection, upload) = reader.into_tunnel();
        let Connection {
            stream,
            received,
            handle,
            ..
        } = connection;
        // Bytes that came with the head of the response are the first of the tunnel. Their room is as
        // large as for a response: it is not kept.
        let received = Cursor::new(received.to_vec());
        Self {
            from_app: received.chain(stream.clone()),
            to_app: stream.clone(),
            handle,
            upload,
            socket: Some(stream),
        }
    }
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
        loop {
            if handle.is_closing() && self.is_at_boundary() {
                to.write_all(&websocket::close_frame(self.sender, self.close_code))
                    .await?;
                to.shutdown().await?;
                // The peer's own close frame is still to come. Unread bytes would reset the
                // connection, and destroy what the peer has not read yet.
                while !receive(&mut from).await?.is_empty() {}
                return Ok(());
            }
            let received = tokio::select! {
                received = receive(&mut from) => received?,
                () = handle.wait_until_closing(), if !handle.is_closing() => continue,
            };
            if received.is_empty() {
                return to.shutdown().await;
            }
            if let Some(stream) = &self.stream {
                stream.count_progress();
            }
            let mut rest = &*received;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(self.advance(rest, handle));
                to.write_all(piece).await?;
                rest = after;
                if handle.is_closing() && self.is_at_boundary() {
                    break;
                }
            }
            to.flush().await?;
        }
    }

    /// Advances over the bytes to send next, and returns their number: all of them, or those up to the
    /// end of a frame if the tunnel is to close there.
    fn advance(&mut self, bytes: &[u8], handle: &ConnectionHandle) -> usize {
        let Some(frames) = &mut self.frames else {
            return bytes.len();
        };
        let mut taken = frames.advance(bytes);
        while taken < bytes.len() && !handle.is_closing() {
            taken += frames.advance(&bytes[taken..]);
        }
        taken
    }

    /// Returns `true` between two frames of a WebSocket.
    fn is_at_boundary(&self) -> bool {
        self.frames.is_some_and(|frames| frames.is_at_boundary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_plane::shared_pool::SharedPool;
    use crate::release::Generation;

    /// Length of [`FRAME`].
    const LENGTH: usize = 102;
    /// A frame of a hundred bytes.
    const FRAME: [u8; LENGTH] = {
        let mut frame = [b'x'; LENGTH];
        (frame[0], frame[1]) = (0x82, 100);
        frame
    };

    /// An end of a tunnel that records the length of each part that it is sent.
    #[derive(Default)]
    struct Sent(Vec<usize>);

    impl AsyncWrite for Sent {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn handle() -> ConnectionHandle {
        let shared = Arc::new(SharedPool::new(1));
        let habits = shared.habits_of(Generation(1));
        let answered = Rc::default();
        ConnectionHandle::new(Generation(1), answered, habits, shared.take_place())
    }

    fn direction() -> Direction {
        Direction {
            frames: Some(FrameTracker::default()),
            sender: Sender::Server,
            close_code: 1001,
            stream: None,
        }
    }

    #[tokio::test]
    async fn frames_that_came_together_are_sent_together() {
        let mut sent = Sent::default();
        let frames = FRAME.repeat(BUFFER / LENGTH);
        direction()
            .copy(frames.as_slice(), &mut sent, &handle())
            .await
            .unwrap();
        assert_eq!(sent.0, [frames.len()]);
    }

    #[test]
    fn a_tunnel_that_is_to_close_is_sent_no_more_than_its_present_frame() {
        let (mut direction, handle) = (direction(), handle());
        let frames = FRAME.repeat(3);
        let half = LENGTH + LENGTH / 2;
        assert_eq!(direction.advance(&frames[..half], &handle), half);
        handle.close_tunnel();
        let rest = direction.advance(&frames[half..], &handle);
        assert_eq!(rest, 2 * LENGTH - half);
        assert!(direction.is_at_boundary());
    }
}
