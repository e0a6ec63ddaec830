//! Listening TCP sockets of this machine and their processes.

use std::io;
use std::net::{IpAddr, SocketAddr};

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use os::ListeningSocket;

/// A listening TCP socket with its process.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Id of its process, where the system reports it: Wine does not.
    pub pid: Option<u32>,
    /// Name of its process, where the system reports it.
    pub name: Option<String>,
    /// Local address.
    pub address: SocketAddr,
}

/// The process that holds a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Id of the process.
    pub pid: u32,
    /// Name of the process, where the system reports it.
    pub name: Option<String>,
}

/// Returns all listening sockets with their processes, none where the system does not tell: a look
/// at all processes.
pub fn all() -> Vec<Listening> {
    os::all()
}

/// Returns all listening sockets, without a look at any process.
pub fn sockets() -> Vec<ListeningSocket> {
    os::sockets(None)
}

/// Returns the listening sockets of a port.
pub fn sockets_of(port: u16) -> Vec<ListeningSocket> {
    os::sockets(Some(port))
}

/// Returns the sockets among these that get connections to an address: those that are bound to it,
/// else to all addresses of its family, else to all of both. It is more than one if they share the
/// port.
pub fn answering(address: SocketAddr, sockets: &[ListeningSocket]) -> Vec<&ListeningSocket> {
    let rank = |socket: &ListeningSocket| match (socket.address.ip(), address.ip()) {
        _ if socket.address.port() != address.port() => None,
        (bound, ip) if bound == ip => Some(0),
        (IpAddr::V4(bound), IpAddr::V4(_)) => bound.is_unspecified().then_some(1),
        (IpAddr::V6(bound), IpAddr::V6(_)) => bound.is_unspecified().then_some(1),
        (IpAddr::V6(bound), IpAddr::V4(_)) => bound.is_unspecified().then_some(2),
        (IpAddr::V4(_), IpAddr::V6(_)) => None,
    };
    let best = sockets.iter().filter_map(rank).min();
    let is_best = |socket: &&ListeningSocket| best.is_some() && rank(socket) == best;
    sockets.iter().filter(is_best).collect()
}

/// Returns the id of the user whose socket gets the connections to an address, where the system
/// reports it: not on Windows.
pub fn user_at(address: SocketAddr) -> Option<u32> {
    os::user_at(address).ok().flatten()
}

/// Returns true if the connections to an address do not reach a socket of `user` any more, but one of
/// another user, who is neither root nor the user of this process, or none at all.
pub fn is_anothers(address: SocketAddr, user: u32) -> bool {
    match os::user_at(address) {
        Ok(Some(now)) => now != user && !os::is_own_or_roots(now),
        Ok(None) => true,
        // The system told it before: nothing is known now.
        Err(_) => false,
    }
}

/// Describes what keeps an address from being bound, for a person: the process that listens there,
/// where the system reports it, or the right that is missing.
pub fn describe_refusal(address: SocketAddr, error: &io::Error) -> Option<String> {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        describe_listener(address)
    } else if kind != io::ErrorKind::PermissionDenied {
        None
    } else if cfg!(windows) {
        // Windows denies an address also because of its holder.
        let range = "it may be in a range that `netsh int ipv4 show excludedportrange tcp` lists";
        describe_listener(address).or_else(|| Some(range.to_owned()))
    } else {
        let right = "a port below 1024 needs root, or CAP_NET_BIND_SERVICE (systemd: \
                     AmbientCapabilities=CAP_NET_BIND_SERVICE)";
        Some(right.to_owned())
    }
}

fn describe_listener(address: SocketAddr) -> Option<String> {
    let is_there =
        |ip: IpAddr| ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    let mut sockets = sockets_of(address.port()).into_iter();
    let holder = sockets
        .find(|socket| is_there(socket.address.ip()))?
        .find_holder()?;
    Some(format!("{holder} listens there"))
}

// === impl Holder ===

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)?;
        match &self.name {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_denied_is_explained() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let told = describe_refusal(SocketAddr::from(([127, 0, 0, 1], 1)), &denied);
        let remedy = if cfg!(windows) {
            "excludedportrange"
        } else {
            "CAP_NET_BIND_SERVICE"
        };
        assert!(told.unwrap().contains(remedy));
    }

    #[test]
    fn who_has_a_port_is_told() {
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let told = describe_listener(SocketAddr::from(([127, 0, 0, 1], port)));
        if cfg!(unix) {
            let told = told.unwrap();
            let this = format!("process {} (", std::process::id());
            assert!(told.starts_with(&this), "{told}");
        }
        drop(socket);
        assert_eq!(
            describe_listener(SocketAddr::from(([127, 0, 0, 1], port))),
            None
        );
    }

    #[test]
    fn our_own_socket_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let all = all();
        let found = all.iter().find(|listening| listening.address == address);
        let found = found.unwrap_or_else(|| panic!("{address} among {all:?}"));
        // Wine names no owner.
        if cfg!(unix) {
            assert_eq!(found.pid, Some(std::process::id()));
        }
    }

    #[test]
    fn the_very_address_that_answers_counts() {
        let on_v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = on_v4.local_addr().unwrap();
        let v6 = SocketAddr::new("::1".parse().unwrap(), address.port());
        let Ok(_on_v6) = TcpListener::bind(v6) else {
            return eprintln!("skipped: this machine has no IPv6, or the port is taken there");
        };
        let sockets = sockets_of(address.port());
        for address in [address, v6] {
            let found = answering(address, &sockets);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].address, address);
        }
        drop(on_v4);
        let sockets = sockets_of(address.port());
        assert_eq!(answering(address, &sockets), [&sockets[0]; 0]);
    }

    #[test]
    fn a_socket_on_all_addresses_answers_on_each() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sockets = sockets_of(port);
        let found = answering(SocketAddr::from(([127, 0, 0, 1], port)), &sockets);
        assert_eq!(found.len(), 1, "{sockets:?}");
    }
}
