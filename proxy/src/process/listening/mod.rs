//! Who listens where, as the system's own table has it.

use std::net::SocketAddr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
