//! Idle connections without buffers.
//!
//! hyper keeps two buffers of 8 KiB for each connection, and its state. A connection that has been
//! idle for a while gives all that back: its task ends, and a small one waits until the socket can be
//! read. Then the connection is served as if it had just been accepted.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::activity::ClientState;
use super::connections::{Client, Connections};

/// Waits, with little memory, until an idle connection has something to read. Returns `false` when it is
/// to end.
pub(super) async fn wait_for_request(client: &Rc<Client>, connections: &Connections) -> bool {
    let mut tracking = None;
    poll_fn(|cx| {
        if tracking.is_none() {
            tracking = Some(client.track_parked(cx.waker()));
        }
        if client.activity.is_close_requested() {
            return Poll::Ready(false);
        }
        // What has arrived is read first, also when the connection is to end.
        if client.stream.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        if connections.should_close(client) {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

/// Returns `true` if nothing is under way on a connection, and nothing belongs to it.
pub(super) fn may_park(client: &Client) -> bool {
    let activity = &client.activity;
    activity.state() == ClientState::Idle
        && !activity.is_write_blocked()
        && !activity.client_may_send()
        && client.bound.is_empty()
        && client.stream.is_quiet_per_reactor()
}
