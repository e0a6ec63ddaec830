//! Listening sockets by one question to the kernel: sock_diag(7).
//!
//! `/proc/net/tcp` lists the connections as well, and takes a hundred times as long on a busy machine.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::ListeningSocket;

// linux/netlink.h and linux/sock_diag.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// State of a listening socket (`TCP_LISTEN`), as a bit.
const LISTEN: u32 = 1 << 10;

/// Length of `nlmsghdr`: length, type, flags, sequence number, port id.
const HEADER: usize = 16;
/// Length of `inet_diag_req_v2`: family, protocol, extensions, padding, states, and `inet_diag_sockid`.
const REQUEST: usize = 8 + 48;
/// Length of `inet_diag_msg`, which optional attributes follow.
const ANSWER: usize = 72;
/// Length of the receive buffer: the kernel sends parts of at most 32 KiB.
const BUFFER: usize = 32 << 10;
/// Maximum time for a part of the answer, which the kernel has at once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the listening sockets of a port, or of all.
///
/// # Errors
/// A filter of system calls may refuse it, as in a sandbox.
pub(super) fn sockets(port: Option<u16>) -> io::Result<Vec<ListeningSocket>> {
    let socket = open()?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        send(&socket, &request(family, port), SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            if !read(&buffer[..length], port, &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

/// Returns the user whose socket gets the connections to an address; `None` if there is no such socket.
///
/// # Errors
/// As for [`sockets`].
pub(super) fn user_at(address: SocketAddr) -> io::Result<Option<u32>> {
    thread_local! {
        // Workers ask for each connection that they make.
        static SOCKET: Cell<Option<OwnedFd>> = const { Cell::new(None) };
    }
    let socket = SOCKET.take().map_or_else(open, Ok)?;
    send(&socket, &request_at(address), SendFlags::empty())?;
    let mut buffer = [0; HEADER + ANSWER + 256];
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    SOCKET.set(Some(socket));
    let mut found = Vec::with_capacity(1);
    match read(&buffer[..length], None, &mut found) {
        Ok(_) => Ok(found.first().map(|socket| socket.user)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))?;
    Ok(socket)
}

/// Returns the question for the socket that gets a connection from nowhere to an address: as no
/// connection has a peer at port 0, that is the listening one.
fn request_at(address: SocketAddr) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    let mut request = request(family, Some(address.port()));
    // A question for one socket.
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    let source = HEADER + 8 + 4;
    request[source..source + ip.len()].copy_from_slice(&ip);
    // INET_DIAG_NOCOOKIE
    request[HEADER + REQUEST - 8..].fill(0xff);
    request
}

/// Returns the question for the listening sockets of a family.
fn request(family: u8, port: Option<u16>) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, IPPROTO_TCP, 0, 0]);
    request.extend(LISTEN.to_ne_bytes());
    request.extend(port.unwrap_or(0).to_be_bytes());
    request.resize(HEADER + REQUEST, 0);
    request
}

/// Reads the messages of one part of the answer. Returns false if it was the last part.
fn read(mut part: &[u8], port: Option<u16>, found: &mut Vec<ListeningSocket>) -> io::Result<bool> {
    while let Some(header) = part.first_chunk::<HEADER>() {
        let &[l0, l1, l2, l3, k0, k1, ..] = header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let kind = u16::from_ne_bytes([k0, k1]);
        let body = part.get(HEADER..length).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR => {
                let code = body
                    .first_chunk()
                    .map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(-code));
            }
            SOCK_DIAG_BY_FAMILY => {
                let socket = socket(body).ok_or(io::ErrorKind::InvalidData)?;
                // A filter by port is new in some kernels.
                if port.is_none_or(|port| port == socket.address.port()) {
                    found.push(socket);
                }
            }
            _ => {}
        }
        // Messages are aligned to four bytes.
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// Reads one `inet_diag_msg`.
fn socket(message: &[u8]) -> Option<ListeningSocket> {
    let message = message.first_chunk::<ANSWER>()?;
    let bytes = |at: usize| message.get(at..)?.first_chunk::<4>().copied();
    let port = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let ip = match message[0] {
        AF_INET => IpAddr::from(Ipv4Addr::from(bytes(8)?)),
        AF_INET6 => Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(ListeningSocket {
        address: SocketAddr::new(ip, port),
        user: u32::from_ne_bytes(bytes(64)?),
        inode: u32::from_ne_bytes(bytes(68)?).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_of_both_families_are_found_by_their_port() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(ip) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let found = match sockets(Some(address.port())) {
                Ok(found) => found,
                Err(error) => return eprintln!("skipped: sock_diag is refused: {error}"),
            };
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].address, address);
            assert_eq!(found[0].user, rustix::process::getuid().as_raw());
            assert_eq!(user_at(address).unwrap(), Some(found[0].user));
            let all = sockets(None).unwrap();
            assert!(all.contains(&found[0]), "{all:?}");
        }
    }

    #[test]
    fn the_socket_that_gets_the_connections_to_an_address_is_found() {
        let on_all = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = on_all.local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let user = match user_at(address) {
            Ok(user) => user,
            Err(error) => return eprintln!("skipped: sock_diag is refused: {error}"),
        };
        assert_eq!(user, Some(rustix::process::getuid().as_raw()));
        let connected = std::net::TcpStream::connect(address).unwrap();
        let accepted = on_all.accept().unwrap();
        assert_eq!(user_at(address).unwrap(), user);
        drop(on_all);
        // What it has accepted is no listener.
        assert_eq!(user_at(address).unwrap(), None);
        drop((connected, accepted));
        if let Ok(on_v6) = TcpListener::bind("[::]:0") {
            let port = on_v6.local_addr().unwrap().port();
            for address in [[127, 0, 0, 1].into(), [0, 0, 0, 0, 0, 0, 0, 1].into()] {
                let address = SocketAddr::new(address, port);
                assert_eq!(user_at(address).unwrap(), user, "{address}");
            }
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_or_an_error_is_an_error() {
        let mut none = Vec::new();
        let mut message = request(AF_INET, Some(80));
        for length in 1..HEADER {
            assert!(read(&message[..length], None, &mut none).unwrap());
        }
        assert!(read(&message[..HEADER + 8], None, &mut none).is_err());
        message[4] = NLMSG_ERROR as u8;
        message[HEADER..HEADER + 4].copy_from_slice(&(-1_i32).to_ne_bytes());
        let refused = read(&message, None, &mut none).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(none.is_empty());
    }
}
