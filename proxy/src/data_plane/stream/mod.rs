//! A socket with several handles.
//!
//! hyper owns its IO object, but only the socket shows that a client has left, and only a socket
//! option distinguishes an aborted response of unknown length from a complete one. A request's body
//! is also sent by one task while another reads the response.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::activity::{Activity, ClientState};
use super::{socket, wire};
use crate::os::unsent;

mod preface;

/// Maximum size of several parts that are copied into one, in bytes: up to there, `send` with the
/// copy costs less than `writev`.
const GATHER_MAX: usize = 1024;

/// Number of bytes to read at a time from a socket that is not registered with the reactor.
const UNREGISTERED_READ: usize = 2048;

/// A handle to a connected socket, which is closed with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Stream(Arc<StreamInner>);

/// The socket. An accepted one is registered with the reactor only when there is something to wait
/// for. A short connection, whose request arrives with it and is answered at once, never is: that
/// saves two of eight system calls, and the reactor's memory.
#[derive(Debug)]
struct StreamInner {
    registered: OnceLock<TcpStream>,
    /// The socket before its registration. No other thread accesses it, but hyper's IO objects have
    /// to be `Sync`.
    accepted: Mutex<Option<std::net::TcpStream>>,
}

/// A client's connection as hyper's IO object; it records activity.
#[derive(Debug)]
pub(super) struct ClientIo {
    stream: Stream,
    activity: Arc<Activity>,
    /// Bytes that were received before, and are read first.
    received: Bytes,
    /// Those are a part of the first bytes of HTTP/2. hyper would refuse some of the parts, so it gets
    /// the whole.
    is_partial: bool,
}

// === impl Stream ===

impl Stream {
    /// Wraps a socket that is registered with the reactor.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(StreamInner {
            registered: OnceLock::from(stream),
            accepted: Mutex::default(),
        }))
    }

    /// Wraps a socket that does not block and is not registered with the reactor yet.
    pub(super) fn from_accepted(stream: std::net::TcpStream) -> Self {
        Self(Arc::new(StreamInner {
            registered: OnceLock::new(),
            accepted: Mutex::new(Some(stream)),
        }))
    }

    /// Returns a handle to no socket, for one stream of many on a connection.
    pub(super) fn detached() -> Self {
        Self(Arc::new(StreamInner {
            registered: OnceLock::new(),
            accepted: Mutex::default(),
        }))
    }

    /// Registers the socket with the reactor, if it is not yet.
    pub(super) fn register(&self) -> io::Result<&TcpStream> {
        match self.0.registered.get() {
            Some(stream) => Ok(stream),
            None => self.register_accepted(),
        }
    }

    // Apart, so that the common case stays small.
    #[inline(never)]
    fn register_accepted(&self) -> io::Result<&TcpStream> {
        let accepted = self.0.accepted.lock().take();
        let stream = TcpStream::from_std(accepted.ok_or(io::ErrorKind::NotConnected)?)?;
        Ok(self.0.registered.get_or_init(|| stream))
    }

    /// Returns `true` if the socket is registered with the reactor.
    pub(super) fn is_registered(&self) -> bool {
        self.0.registered.get().is_some()
    }

    /// Calls `f` with the socket, registered or not.
    fn with_socket<T>(&self, f: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
        if let Some(stream) = self.0.registered.get() {
            return f(SockRef::from(stream));
        }
        match &*self.0.accepted.lock() {
            Some(stream) => f(SockRef::from(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Returns `true` if an idle connection is open and has nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        is_quiet(&self.with_socket(peek))
    }

    /// Returns the same by the reactor's events: it takes a system call only if there are any.
    /// Enough for a request that can be sent again.
    pub(super) fn is_quiet_per_reactor(&self) -> bool {
        match self.0.registered.get() {
            Some(stream) => {
                is_quiet(&stream.try_io(Interest::READABLE, || peek(SockRef::from(stream))))
            }
            None => self.is_quiet(),
        }
    }

    /// Returns `true` if the other end has closed its half, though there may be bytes to read
    /// before that.
    pub(super) fn is_read_closed(&self) -> bool {
        let Some(stream) = self.0.registered.get() else {
            return matches!(self.with_socket(peek), Ok(0));
        };
        let ready = pin!(stream.ready(Interest::READABLE));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Returns `true` if the connection has failed, though nobody reads from it.
    pub(super) fn has_failed(&self) -> bool {
        let Some(stream) = self.0.registered.get() else {
            return false;
        };
        let ready = pin!(stream.ready(Interest::WRITABLE));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_write_closed())
    }

    /// Returns the number of bytes that were sent and that the other end has not taken yet; zero
    /// where the system does not say.
    pub(super) fn unsent(&self) -> u32 {
        self.with_socket(|socket| Ok(unsent::bytes(&socket)))
            .unwrap_or(0)
    }

    /// Sends as much as fits at once, on a connection to which hyper writes nothing more.
    pub(super) fn send_best_effort(&self, bytes: &[u8]) {
        // A client that takes so little would not read the rest either.
        let _ = self.with_socket(|socket| socket.send(bytes));
    }

    /// Ends the stream of bytes to a client, which may still send.
    pub(super) fn begin_lingering(&self, activity: &Activity) {
        // Fails only on a connection that has ended already.
        let _ = self.with_socket(|socket| socket.shutdown(Shutdown::Write));
        activity.enter(ClientState::Lingering);
    }

    /// Makes the close that follows a reset, which no client takes for the end of a message.
    pub(super) fn reset_on_close(&self) {
        // Fails only on a connection that has ended already.
        let _ = self.with_socket(|socket| socket.set_linger(Some(Duration::ZERO)));
    }

    /// Waits until there is something to receive, or the connection has ended.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.register()?.poll_read_ready(cx)
    }

    /// Receives as much as is there and fits into `buffer`.
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
                        // The socket is empty now. Without this the next read would take a system
                        // call only to find that out. Nothing can arrive unnoticed in between, as
                        // the reactor runs on this thread.
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

    /// Receives as much as is there without the reactor, or returns `None` if nothing is.
    fn receive_unregistered(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<usize>> {
        let mut received = [0; UNREGISTERED_READ];
        let room = buffer.remaining().min(UNREGISTERED_READ);
        match self.with_socket(|socket| (&*socket).read(&mut received[..room])) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
            Ok(length) => {
                buffer.put_slice(&received[..length]);
                Some(Ok(length))
            }
        }
    }

    /// Sends as much as fits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket::send(&socket, bytes))
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.is_registered() {
            match self.with_socket(&write) {
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
        let mut together = [0; GATHER_MAX];
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
        Poll::Ready(self.with_socket(|socket| socket.shutdown(Shutdown::Write)))
    }
}

/// Copies the parts into one, if they fit.
fn gather<'a>(slices: &[IoSlice<'_>], together: &'a mut [u8; GATHER_MAX]) -> Option<&'a [u8]> {
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
    pub(super) fn new(stream: Stream, activity: Arc<Activity>, received: Bytes) -> Self {
        Self {
            stream,
            activity,
            received,
            is_partial: false,
        }
    }

    /// Ends the turn of the connection's task once enough has passed: a transfer that is always
    /// ready would keep all others of the worker waiting.
    fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        if self.activity.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn record_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(length)) => self.activity.record_write(*length),
            Poll::Pending => self.activity.record_write(0),
            Poll::Ready(Err(_)) => {}
        }
    }

    /// Records the bytes that `buffer` holds beside those `before`, and returns `true` if they are to
    /// be kept back.
    fn record_received(&self, buffer: &mut ReadBuf<'_>, before: usize) -> bool {
        let received = &mut buffer.filled_mut()[before..];
        if received.is_empty() || !self.activity.record_read(received.len()) {
            return false;
        }
        wire::lower_request_version(received);
        wire::is_part_of_preface(received)
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx));
        if !self.received.is_empty() {
            ready!(self.poll_preface(cx))?;
            let length = self.received.len().min(buffer.remaining());
            buffer.put_slice(&self.received.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if !self.stream.is_registered()
            && let Some(received) = self.stream.receive_unregistered(buffer)
        {
            let received = received?;
            if self.record_received(buffer, before) {
                return self.keep_back(cx, buffer, before);
            }
            if received == UNREGISTERED_READ {
                // The rest may be long, and is read in larger steps. An error is returned by the
                // next read.
                let _ = self.stream.register();
            }
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            self.activity.await_bytes();
        }
        ready!(read)?;
        if self.record_received(buffer, before) {
            return self.keep_back(cx, buffer, before);
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
        ready!(self.poll_turn(cx));
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.record_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.record_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.state().is_tunnel() {
            return Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        self.activity.record_shutdown();
        if self.activity.client_may_send() {
            self.stream.begin_lingering(&self.activity);
        }
        // Otherwise hyper closes the connection next, which has the same effect with one system
        // call less.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;
    use crate::data_plane::activity::TURN;

    /// Returns a client, and its connection as it was accepted.
    fn accepted() -> (std::net::TcpStream, ClientIo) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let activity = Arc::new(Activity::new());
        (
            client,
            ClientIo::new(Stream::from_accepted(stream), activity, Bytes::new()),
        )
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
        client.write_all(&[b'x'; 3 * UNREGISTERED_READ]).unwrap();
        assert_eq!(read(&mut io, 64 * 1024).await, UNREGISTERED_READ);
        assert_eq!(read(&mut io, 64 * 1024).await, 2 * UNREGISTERED_READ);
        assert!(io.stream.is_registered());
    }

    #[tokio::test]
    async fn it_is_known_that_a_client_takes_nothing() {
        let (client, mut io) = accepted();
        let bytes = vec![b'x'; 64 * 1024];
        let mut is_full = false;
        while !is_full {
            assert!(!io.activity.is_write_blocked());
            io.activity.begin_turn(TURN);
            is_full = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &bytes)))
                .await
                .is_pending();
        }
        assert!(io.activity.is_write_blocked());
        drop(client);
    }

    #[tokio::test]
    async fn a_transfer_that_is_always_ready_lets_others_go_on() {
        let (mut client, mut io) = accepted();
        let bytes = [b'x'; 16 * 1024];
        let reader = std::thread::spawn(move || io::copy(&mut client, &mut io::sink()));
        let mut written = 0;
        while let Poll::Ready(length) =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &bytes))).await
        {
            written += length.unwrap();
            assert!(written <= 2 * TURN as usize);
        }
        io.activity.begin_turn(TURN);
        poll_fn(|cx| Pin::new(&mut io).poll_write(cx, &bytes))
            .await
            .unwrap();
        drop(io);
        reader.join().unwrap().unwrap();
    }
}
