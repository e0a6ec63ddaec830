//! Bytes that were given to a socket and that the other end has not acknowledged.

use socket2::SockRef;

/// Returns the number of these bytes.
///
/// Source: tcp(7), SIOCOUTQ, which is the same request as TIOCOUTQ (ioctl_tty(2)).
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the request has no safe interface")]
pub(crate) fn bytes(socket: &SockRef<'_>) -> u32 {
    use std::ffi::c_int;
    use std::os::fd::AsFd as _;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    // SAFETY: this request only writes one integer, and fails on anything but a socket or a terminal.
    let unsent = unsafe {
        let request = Getter::<{ libc::TIOCOUTQ as Opcode }, c_int>::new();
        ioctl(socket.as_fd(), request)
    };
    unsent.map_or(0, |bytes| u32::try_from(bytes).unwrap_or(0))
}

/// Returns zero: the system does not say. What it has taken then counts as sent.
#[cfg(not(target_os = "linux"))]
pub(crate) fn bytes(_: &SockRef<'_>) -> u32 {
    0
}
