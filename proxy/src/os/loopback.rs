//! Connections to ports of this machine that fail without delay.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

/// Connects to a port of this machine, or fails at once if nothing listens there.
///
/// By default Windows retries a refused connection for two seconds before it reports an error
/// (libuv#2896), and an app that is ready in ten milliseconds would be found after 500. Use it only
/// for attempts that are repeated anyway: Windows also refuses connections to a busy listener whose
/// queue is full, and there its retries help.
pub async fn connect_at_once(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    disable_retries(&socket);
    socket.connect(address).await
}

/// Does nothing: a refused connection is known at once.
#[cfg(unix)]
fn disable_retries(_: &TcpSocket) {}

/// Disables the retries of a refused connection. Windows before 10.0.16299, and Wine, do not support
/// it and keep their default.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the option has no safe interface")]
fn disable_retries(socket: &TcpSocket) {
    use std::os::windows::io::AsRawSocket as _;
    use std::ptr;
    use windows_sys::Win32::Networking::WinSock;

    // mstcpip.h: TCP_INITIAL_RTO_UNSPECIFIED_RTT and TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS.
    let parameters = WinSock::TCP_INITIAL_RTO_PARAMETERS {
        Rtt: u16::MAX,
        MaxSynRetransmissions: 0xfe,
    };
    let mut written = 0;
    // SAFETY: the socket is open, the parameters have the given length, nothing but the count is
    // written, and the call is complete when it returns, as it is not overlapped.
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
