//! Whether something accepts connections on a port of this machine, without delay.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

/// Connects to a port of this machine; when nothing listens there, the error comes at once.
///
/// Windows otherwise tries a refused connection again for two seconds before it says so
/// (libuv#2896), and an app that is ready in ten milliseconds would be found after 500. Only for a
/// question that is asked again anyway: where the queue of a busy listener is full, Windows refuses
/// as well, and trying again is the cure.
///
/// # Errors
/// What the system said.
pub async fn connect_at_once(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    try_once_only(&socket);
    socket.connect(address).await
}

/// Nothing to do: a refused connection is known at once.
#[cfg(unix)]
fn try_once_only(_: &TcpSocket) {}

/// Windows before 10.0.16299, and Wine, refuse it, and try for as long as they do by default.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the option has no safe interface")]
fn try_once_only(socket: &TcpSocket) {
    use std::os::windows::io::AsRawSocket as _;
    use std::ptr;
    use windows_sys::Win32::Networking::WinSock;

    // mstcpip.h: TCP_INITIAL_RTO_UNSPECIFIED_RTT and TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS.
    let parameters = WinSock::TCP_INITIAL_RTO_PARAMETERS {
        Rtt: u16::MAX,
        MaxSynRetransmissions: 0xfe,
    };
    let mut written = 0;
    // SAFETY: the socket is open, the parameters are of the length that is said, nothing but the
    // count is written, and the call is over when it returns: it is not overlapped.
    let _ = unsafe {
        WinSock::WSAIoctl(
            socket.as_raw_socket() as WinSock::SOCKET,
            WinSock::SIO_TCP_INITIAL_RTO,
            ptr::from_ref(&parameters).cast(),
            size_of_val(&parameters) as u32,
            ptr::null_mut(),
            0,
            &raw mut written,
            ptr::null_mut(),
            None,
        )
    };
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_that_listens_is_reached_and_another_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        connect_at_once(address).await.unwrap();
        drop(listener);
        let refused = connect_at_once(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}
