//! Server-sent events, from which the page takes all that it shows.
//!
//! ```text
//! event: status    the status, after each change
//! event: traffic   an array of new samples
//! event: log       an array of new lines
//! ```
//! The first event of each kind holds all that is kept. Each change of the status, at least one a
//! second, also sends the other events.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::traffic::Sample;
use super::view::View;
use crate::deployment::status::Status;

/// Maximum number of connections to the events: the oldest ends for one more. A page connects again.
const MAX_FOLLOWERS: u64 = 16;
/// Minimum time between two events of a kind.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The events of one connection.
pub(super) struct Events {
    next: Next,
    view: Rc<View>,
    /// Number of connections before this one.
    before: u64,
}

/// A wait for the next events and what has been sent with them; `None` when the supervisor has ended.
type Next = Pin<Box<dyn Future<Output = Option<(Follower, Bytes)>>>>;

/// Progress of one connection: what it has been sent so far.
#[derive(Debug)]
struct Follower {
    status: watch::Receiver<Status>,
    samples: u64,
    lines: u64,
    is_new: bool,
}

// === impl Events ===

impl Events {
    /// Returns the events of a new connection.
    pub(super) fn follow(view: &Rc<View>) -> Self {
        let before = view.followers.get();
        view.followers.set(before + 1);
        let follower = Follower {
            status: view.status.clone(),
            samples: 0,
            lines: 0,
            is_new: true,
        };
        Self {
            next: Box::pin(next(Rc::clone(view), follower)),
            view: Rc::clone(view),
            before,
        }
    }

    /// Polls for the next bytes; `None` after the last ones.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.view.followers.get() > self.before + MAX_FOLLOWERS {
            return Poll::Ready(None);
        }
        let Some((follower, bytes)) = ready!(self.next.as_mut().poll(cx)) else {
            return Poll::Ready(None);
        };
        self.next = Box::pin(next(Rc::clone(&self.view), follower));
        Poll::Ready(Some(bytes))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

async fn next(view: Rc<View>, mut follower: Follower) -> Option<(Follower, Bytes)> {
    if !std::mem::take(&mut follower.is_new) {
        sleep(MIN_INTERVAL).await;
        follower.status.changed().await.ok()?;
    }
    let mut events = Vec::new();
    follower.status.mark_unchanged();
    write(&mut events, "status", &view.complete_status());
    let traffic = view.traffic.borrow();
    let (samples, all_samples) = traffic.since(follower.samples);
    let samples: Vec<&Sample> = samples.collect();
    if !samples.is_empty() {
        write(&mut events, "traffic", &samples);
    }
    let (lines, all_lines) = view.tail.since(follower.lines);
    if !lines.is_empty() {
        write(&mut events, "log", &lines);
    }
    (follower.samples, follower.lines) = (all_samples, all_lines);
    Some((follower, events.into()))
}

/// Writes an event. Its JSON is one line: line breaks in strings are escaped.
fn write(events: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    if let Ok(json) = serde_json::to_vec(data) {
        events.extend_from_slice(b"event: ");
        events.extend_from_slice(name.as_bytes());
        events.extend_from_slice(b"\ndata: ");
        events.extend_from_slice(&json);
        events.extend_from_slice(b"\n\n");
    }
}
