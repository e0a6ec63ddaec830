//! A socket that several have a handle to.
//!
//! hyper owns its IO object, but whether a client has left is seen at its socket, and only a socket
//! option makes an aborted response of unknown length differ from a complete one. And a request's
//! body is sent by one task while another reads the answer.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BufMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::activity::{Activity, Doing};

/// A handle to a connected socket; it is closed with the last one.
#[derive(Clone, Debug)]
pub(super) struct Stream(Arc<TcpStream>);

/// A client's connection, which says when bytes come.
#[derive(Debug)]
pub(super) struct ClientIo {
    stream: Stream,
    activity: Arc<Activity>,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Whether an idle connection is as it should be: open, and with nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = self.peek();
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same as far as the reactor knows: a system call only if it has seen something. Good
    /// enough for a request that can be sent again.
    pub(super) fn is_quiet_so_far(&self) -> bool {
        let peeked = self.0.try_io(Interest::READABLE, || self.peek());
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn peek(&self) -> io::Result<usize> {
        SockRef::from(&*self.0).peek(&mut [MaybeUninit::uninit()])
    }

    /// Whether the other end will send nothing more, though there may be bytes to read before that.
    pub(super) fn is_read_closed(&self) -> bool {
        let ready = pin!(self.0.ready(Interest::READABLE));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Writes what fits at once: a last word on a connection that hyper writes nothing to.
    pub(super) fn last_word(&self, bytes: &[u8]) {
        // What does not fit was not going to be read.
        let _ = self.0.try_write(bytes);
    }

    /// Makes the close that follows a reset, which no client takes for the end of a message.
    pub(super) fn reset_on_close(&self) {
        // It fails only on a connection that is gone already.
        let _ = SockRef::from(&*self.0).set_linger(Some(Duration::ZERO));
    }
}

impl Stream {
    /// Reads what there is into `buffer`.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let room = buffer.chunk_mut().len();
            match self.0.try_read_buf(buffer) {
                Ok(n) => {
                    if 0 < n && n < room {
                        // The socket is empty now: without this the next read would ask the
                        // system once more only to hear so. Nothing can arrive unseen in between,
                        // as the reactor runs on this thread.
                        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                        let _ = self.0.try_io(Interest::READABLE, empty);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what fits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(bytes))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_receive(cx, buffer).map_ok(|_| ())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}

impl Stream {
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

// === impl ClientIo ===

impl ClientIo {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.activity.doing() {
            Doing::Tunnel => Pin::new(&mut self.stream).poll_shutdown(cx),
            // hyper closes next, which says the same with one system call less.
            Doing::Nothing | Doing::Head | Doing::Request | Doing::Idle => Poll::Ready(Ok(())),
        }
    }
}
