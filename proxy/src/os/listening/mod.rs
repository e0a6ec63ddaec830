//! Who listens where, as the system's own table has it.

use std::net::{IpAddr, SocketAddr};

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

/// A socket that accepts connections.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Whose it is, where the table says so: Wine's does not.
    pub pid: Option<u32>,
    /// What that is called, where the table says so.
    pub name: Option<String>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// All of them; none where the system does not tell.
pub fn all() -> Vec<Listening> {
    os::all()
}

/// Which process has a port that cannot be had, as a person reads it, where the system tells.
pub fn who_has(address: SocketAddr) -> Option<String> {
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
        let told = who_has(SocketAddr::from(([127, 0, 0, 1], port)));
        if cfg!(unix) {
            let told = told.unwrap();
            let this = format!("process {} (", std::process::id());
            assert!(told.starts_with(&this), "{told}");
        }
        drop(socket);
        assert_eq!(who_has(SocketAddr::from(([127, 0, 0, 1], port))), None);
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
