//! A socket that several have a handle to.
//!
//! hyper owns its IO object, but whether a client has left is seen at its socket, and only a socket
//! option makes an aborted response of unknown length differ from a complete one. And a request's
//! body is sent by one task while another reads the answer.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BufMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::activity::{Activity, Doing};
use super::socket;

/// So many bytes in several parts are sent as one: `send` costs less than `writev`, by more than such
/// a copy.
const TOGETHER: usize = 1024;

/// As much is read at a time of a socket that the reactor does not know yet.
const EARLY: usize = 2048;

/// A handle to a connected socket; it is closed with the last one.
#[derive(Clone, Debug)]
pub(super) struct Stream(Arc<Shared>);

/// The reactor is told of an accepted socket only once there is something to wait for. A short
/// connection, whose request has come along with it and is answered at once, never is: that spares
/// two system calls of eight, and what the reactor keeps for it.
#[derive(Debug)]
struct Shared {
    registered: OnceLock<TcpStream>,
    /// Until then. No other thread ever has it, but hyper's IO objects have to be `Sync`.
    accepted: Mutex<Option<std::net::TcpStream>>,
}

/// A client's connection, which says when bytes come.
#[derive(Debug)]
pub(super) struct ClientIo {
    stream: Stream,
    activity: Arc<Activity>,
}

// === impl Stream ===

impl Stream {
    /// Of a socket that the reactor knows.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Shared {
            registered: OnceLock::from(stream),
            accepted: Mutex::default(),
        }))
    }

    /// Of a socket that does not block and that the reactor does not know yet.
    pub(super) fn accepted(stream: std::net::TcpStream) -> Self {
        Self(Arc::new(Shared {
            registered: OnceLock::new(),
            accepted: Mutex::new(Some(stream)),
        }))
    }

    /// Has the reactor watch it from now on.
    pub(super) fn register(&self) -> io::Result<&TcpStream> {
        if let Some(stream) = self.0.registered.get() {
            return Ok(stream);
        }
        let accepted = self.early().take();
        let stream = TcpStream::from_std(accepted.ok_or(io::ErrorKind::NotConnected)?)?;
        Ok(self.0.registered.get_or_init(|| stream))
    }

    /// Whether the reactor watches it already.
    pub(super) fn is_registered(&self) -> bool {
        self.0.registered.get().is_some()
    }

    fn early(&self) -> MutexGuard<'_, Option<std::net::TcpStream>> {
        self.0
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the socket says, watched or not.
    fn ask<T>(&self, ask: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
        if let Some(stream) = self.0.registered.get() {
            return ask(SockRef::from(stream));
        }
        match &*self.early() {
            Some(stream) => ask(SockRef::from(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether an idle connection is as it should be: open, and with nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        is_quiet(&self.ask(peek))
    }

    /// The same as far as the reactor knows: a system call only if it has seen something. Good
    /// enough for a request that can be sent again.
    pub(super) fn is_quiet_so_far(&self) -> bool {
        match self.0.registered.get() {
            Some(stream) => {
                is_quiet(&stream.try_io(Interest::READABLE, || peek(SockRef::from(stream))))
            }
            None => self.is_quiet(),
        }
    }

    /// Whether the other end will send nothing more, though there may be bytes to read before that.
    pub(super) fn is_read_closed(&self) -> bool {
        let Some(stream) = self.0.registered.get() else {
            return matches!(self.ask(peek), Ok(0));
        };
        let ready = pin!(stream.ready(Interest::READABLE));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Writes what fits at once: a last word on a connection that hyper writes nothing to.
    pub(super) fn last_word(&self, bytes: &[u8]) {
        // What does not fit was not going to be read.
        let _ = self.ask(|socket| socket.send(bytes));
    }

    /// Makes the close that follows a reset, which no client takes for the end of a message.
    pub(super) fn reset_on_close(&self) {
        // It fails only on a connection that is gone already.
        let _ = self.ask(|socket| socket.set_linger(Some(Duration::ZERO)));
    }

    /// Reads what there is into `buffer`.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        let stream = self.register()?;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = buffer.chunk_mut().len();
            match socket::receive(stream, buffer) {
                Ok(n) => {
                    if 0 < n && n < room {
                        // The socket is empty now: without this the next read would ask the
                        // system once more only to hear so. Nothing can arrive unseen in between,
                        // as the reactor runs on this thread.
                        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                        let _ = stream.try_io(Interest::READABLE, empty);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads without the reactor what there is; nothing when it has to be waited for.
    fn receive_early(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<usize>> {
        let mut received = [0; EARLY];
        let room = buffer.remaining().min(EARLY);
        match self.ask(|socket| (&*socket).read(&mut received[..room])) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
            Ok(length) => {
                buffer.put_slice(&received[..length]);
                Some(Ok(length))
            }
        }
    }

    /// Writes what fits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket::send(&socket, bytes))
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.is_registered() {
            match self.ask(&write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        let stream = self.register()?;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || write(SockRef::from(stream))) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as all that is asked")]
fn peek(socket: SockRef<'_>) -> io::Result<usize> {
    socket.peek(&mut [MaybeUninit::uninit()])
}

fn is_quiet(peeked: &io::Result<usize>) -> bool {
    let error = peeked.as_ref().err().map(io::Error::kind);
    error == Some(io::ErrorKind::WouldBlock)
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
        let mut together = [0; TOGETHER];
        match gather(slices, &mut together) {
            Some(bytes) => self.poll_send(cx, bytes),
            None => self.poll_write_with(cx, |socket| socket.send_vectored(slices)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.ask(|socket| socket.shutdown(std::net::Shutdown::Write)))
    }
}

/// The parts in one, if they fit.
fn gather<'a>(slices: &[IoSlice<'_>], together: &'a mut [u8; TOGETHER]) -> Option<&'a [u8]> {
    let mut length = 0;
    for slice in slices {
        together
            .get_mut(length..length + slice.len())?
            .copy_from_slice(slice);
        length += slice.len();
    }
    Some(&together[..length])
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
        if !self.stream.is_registered()
            && let Some(received) = self.stream.receive_early(buffer)
        {
            let received = received?;
            if received > 0 {
                self.activity.received();
            }
            if received == EARLY {
                // There is more, and it may be much: that is read in larger steps. Refused: later.
                let _ = self.stream.register();
            }
            return Poll::Ready(Ok(()));
        }
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
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.set_waits_to_send(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.activity.set_waits_to_send(written.is_pending());
        written
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::super::activity::Clock;
    use super::*;

    /// A client, and its connection as it was accepted.
    fn accepted() -> (std::net::TcpStream, ClientIo) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let activity = Arc::new(Activity::new(Clock::default()));
        (client, ClientIo::new(Stream::accepted(stream), activity))
    }

    async fn read(io: &mut ClientIo, room: usize) -> usize {
        let mut bytes = vec![0; room];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buffer))
            .await
            .unwrap();
        buffer.filled().len()
    }

    #[tokio::test]
    async fn what_is_short_is_read_without_the_reactor_and_what_is_long_in_large_steps() {
        let (mut client, mut io) = accepted();
        client.write_all(&[b'x'; 100]).unwrap();
        assert_eq!(read(&mut io, 64 * 1024).await, 100);
        assert!(!io.stream.is_registered());
        client.write_all(&[b'x'; 3 * EARLY]).unwrap();
        assert_eq!(read(&mut io, 64 * 1024).await, EARLY);
        assert_eq!(read(&mut io, 64 * 1024).await, 2 * EARLY);
        assert!(io.stream.is_registered());
    }

    #[tokio::test]
    async fn it_is_known_that_a_client_takes_nothing() {
        let (client, mut io) = accepted();
        let bytes = vec![b'x'; 64 * 1024];
        let mut is_full = false;
        while !is_full {
            assert!(!io.activity.waits_to_send());
            is_full = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &bytes)))
                .await
                .is_pending();
        }
        assert!(io.activity.waits_to_send());
        drop(client);
    }
}
