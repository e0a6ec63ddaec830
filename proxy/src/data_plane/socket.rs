//! What is read from a socket and written to one, by the cheapest call that the system has.
//!
//! On Unix that is not libc's: its `recv` and `send` are cancellation points of threads, and say so
//! before and after each call, which is one or two in a hundred of what a short request costs.

use std::io;

use bytes::BufMut;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Reads what there is, as far as it fits, into a socket's buffer; [`io::ErrorKind::WouldBlock`] when
/// there is nothing.
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

    // SAFETY: the system writes bytes into it, and nothing is read out of it.
    let room = unsafe { buffer.chunk_mut().as_uninit_slice_mut() };
    let ((received, _rest), _) = recv(stream, room, RecvFlags::empty())?;
    let length = received.len();
    // SAFETY: so many bytes at the beginning of it have just been written.
    unsafe { buffer.advance_mut(length) };
    Ok(length)
}

#[cfg(windows)]
pub(super) fn receive(stream: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
    stream.try_read_buf(buffer)
}

/// Writes what fits; [`io::ErrorKind::WouldBlock`] when nothing does.
#[cfg(unix)]
pub(super) fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
    use std::os::fd::AsFd;

    use rustix::net::SendFlags;

    // A client that has left is an error, and no signal.
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
