//! The end of a connection whose client may still send.
//!
//! A close with unread bytes resets the connection, and a client that sends all before it reads
//! loses the response that came early (RFC 9112, section 9.6). The connection is therefore closed
//! for sending first, and what still comes is thrown away, within [`MAX_BYTES`] and a time that the
//! sweep limits.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use super::activity::TURN;
use super::connections::Client;

/// Maximum number of bytes that are thrown away: nearly 30 seconds at 70 Mbit/s.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Number of bytes to receive at a time.
const RECEIVE: usize = 32 * 1024;

/// Reads until the client has closed the connection, which has been closed for sending.
pub(super) async fn linger(client: Rc<Client>) {
    let mut tracking = None;
    let mut buffer = Vec::with_capacity(RECEIVE);
    let mut left = MAX_BYTES;
    client.activity.withdraw_close();
    // It has no next request.
    drop(client.bound.take());
    poll_fn(|cx| {
        if tracking.is_none() {
            tracking = Some(client.track(cx.waker()));
        }
        for _ in 0..TURN as usize / RECEIVE {
            if client.activity.is_close_requested() {
                return Poll::Ready(());
            }
            buffer.clear();
            match ready!(client.stream.poll_receive(cx, &mut buffer)) {
                Ok(received) if 0 < received && received < left => left -= received,
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
