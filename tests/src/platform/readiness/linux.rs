//! `/proc/net/tcp`, and whose descriptors they are.

use listeners::{Protocol, SocketState, get_all};

/// Who listens on this port by IPv4.
pub(super) fn owner(port: u16) -> Option<u32> {
    let listener = get_all().ok()?.into_iter().find(|listener| {
        let here = listener.socket.is_ipv4() && listener.socket.port() == port;
        let listens = listener.state == SocketState::Listen;
        here && listens && listener.protocol == Protocol::TCP
    });
    listener.map(|listener| listener.process.pid)
}
