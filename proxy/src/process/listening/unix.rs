//! Unix: the crate reads /proc.

use listeners::SocketState;

use super::Listening;

pub(super) fn all() -> Vec<Listening> {
    let all = listeners::get_all().unwrap_or_default().into_iter();
    all.filter(|listener| listener.state == SocketState::Listen)
        .map(|listener| Listening {
            pid: listener.process.pid,
            name: Some(listener.process.name),
            address: listener.socket,
        })
        .collect()
}
