//! Listening TCP sockets of this machine and their processes.

use std::net::{IpAddr, SocketAddr};

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

/// A listening TCP socket.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Id of its process, where the system reports it: Wine does not.
    pub pid: Option<u32>,
    /// Name of its process, where the system reports it.
    pub name: Option<String>,
    /// Local address.
    pub address: SocketAddr,
}

/// Returns all listening sockets; none where the system does not tell.
pub fn all() -> Vec<Listening> {
    os::all()
}

/// Describes the process that listens on an address, for a person, where the system reports it.
pub fn describe_listener(address: SocketAddr) -> Option<String> {
    let is_there =
        |ip: IpAddr| ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    let mut all = all().into_iter();
    let one = all.find(|one| one.address.port() == address.port() && is_there(one.address.ip()))?;
    let pid = one.pid?;
    let name = one
        .name
        .map_or_else(String::new, |name| format!(" ({name})"));
    Some(format!("process {pid}{name} listens there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_port_is_told() {
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
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
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let all = all();
        let found = all.iter().find(|listening| listening.address == address);
        let found = found.unwrap_or_else(|| panic!("{address} among {all:?}"));
        // Wine names no owner.
        if cfg!(unix) {
            assert_eq!(found.pid, Some(std::process::id()));
        }
    }
}
