//! Receiving and sending by the cheapest call of the system.
//!
//! On Unix that is not libc's: its `recv` and `send` are cancellation points of threads, and mark
//! themselves so before and after each call, which costs one or two percent of a short request.

use std::io;

use bytes::BufMut;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Receives as much as is there and fits, or returns [`io::ErrorKind::WouldBlock`].
#[cfg(unix)]
pub(super) fn receive(stream: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
    stream.try_io(tokio::io::Interest::READABLE, || {
        receive_into(stream, buffer)
    })
}

#[cfg(unix)]
#[expect(
    unsafe_code,
    reason = "a part of a buffer is filled that nothing is in yet"
)]
fn receive_into(stream: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
    use rustix::net::{RecvFlags, recv};

    // SAFETY: the system only writes to it, and nothing is read out of it.
    let room = unsafe { buffer.chunk_mut().as_uninit_slice_mut() };
    let ((received, _rest), _) = recv(stream, room, RecvFlags::empty())?;
    let length = received.len();
    // SAFETY: these bytes at its beginning have just been written.
    unsafe { buffer.advance_mut(length) };
    Ok(length)
}

#[cfg(windows)]
pub(super) fn receive(stream: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
    stream.try_read_buf(buffer)
}

/// Sends as much as fits, or returns [`io::ErrorKind::WouldBlock`].
#[cfg(unix)]
pub(super) fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
    use std::os::fd::AsFd;

    use rustix::net::SendFlags;

    // The end of the connection is reported as an error, not as a signal.
    Ok(rustix::net::send(
        socket.as_fd(),
        bytes,
        SendFlags::NOSIGNAL,
    )?)
}

#[cfg(windows)]
pub(super) fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
    socket.send(bytes)
}
