//! A stream as the app's end of a tunnel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::OpenStream;

/// The receiving half of a stream.
#[derive(Debug)]
pub(super) struct TunnelReader {
    body: RecvStream,
    /// Bytes that were received and not yet read.
    received: Bytes,
    _open: OpenStream,
}

/// The sending half of a stream; it resets the stream if it is dropped before its end.
#[derive(Debug)]
pub(super) struct TunnelWriter(pub(super) SendStream<Bytes>);

// === impl TunnelReader ===

impl TunnelReader {
    pub(super) fn new(body: RecvStream, open: OpenStream) -> Self {
        Self {
            body,
            received: Bytes::new(),
            _open: open,
        }
    }
}

impl AsyncRead for TunnelReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => self.received = data,
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received.split_to(length));
        // Room for more: the client's side takes this.
        let released = self.body.flow_control().release_capacity(length);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

// === impl TunnelWriter ===

impl AsyncWrite for TunnelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut self.0;
        stream.reserve_capacity(bytes.len());
        while stream.capacity() == 0 && bytes.has_remaining() {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = stream.capacity().min(bytes.len());
        let sent = stream.send_data(Bytes::copy_from_slice(&bytes[..length]), false);
        Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what it has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.0.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
