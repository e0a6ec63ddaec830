//! Unix: the crate `listeners` reads `/proc`.

use listeners::{Protocol, SocketState};

use super::Listening;

pub(super) fn all() -> Vec<Listening> {
    let all = listeners::get_all().unwrap_or_default().into_iter();
    all.filter(|l| l.state == SocketState::Listen && l.protocol == Protocol::TCP)
        .map(|listener| Listening {
            pid: Some(listener.process.pid),
            name: Some(listener.process.name),
            address: listener.socket,
        })
        .collect()
}
