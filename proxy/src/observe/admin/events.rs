//! What the page shows, as it comes: server-sent events.
//!
//! ```text
//! event: status    the status, when it has changed
//! event: traffic   an array of samples that are new
//! event: log       an array of lines that are new
//! ```
//! The first of each has all that is kept. The status changes once a second at least, which is what
//! drives the others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::View;
use super::traffic::Sample;
use crate::deployment::status::Status;

/// More are told to come again later.
const FOLLOWERS: usize = 16;
/// No more often than this, however much happens.
const CALM: Duration = Duration::from_millis(100);

/// The events of one who follows them.
pub(super) struct Events {
    next: Next,
    view: Rc<View>,
}

/// What comes next, and what has been seen then; nothing when the status has ended.
type Next = Pin<Box<dyn Future<Output = Option<(Follower, Bytes)>>>>;

/// What one has seen.
#[derive(Debug)]
struct Follower {
    status: watch::Receiver<Status>,
    samples: u64,
    lines: u64,
    is_new: bool,
}

// === impl Events ===

impl Events {
    /// What is there and what comes, unless too many follow already.
    pub(super) fn follow(view: &Rc<View>) -> Option<Self> {
        if view.followers.get() == FOLLOWERS {
            return None;
        }
        view.followers.set(view.followers.get() + 1);
        let follower = Follower {
            status: view.status.clone(),
            samples: 0,
            lines: 0,
            is_new: true,
        };
        Some(Self {
            next: Box::pin(next(Rc::clone(view), follower)),
            view: Rc::clone(view),
        })
    }

    /// The next bytes; `None` when there will be no more.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
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

impl Drop for Events {
    fn drop(&mut self) {
        self.view.followers.set(self.view.followers.get() - 1);
    }
}

async fn next(view: Rc<View>, mut follower: Follower) -> Option<(Follower, Bytes)> {
    if !std::mem::take(&mut follower.is_new) {
        sleep(CALM).await;
        follower.status.changed().await.ok()?;
    }
    let mut events = Vec::new();
    write(&mut events, "status", &*follower.status.borrow_and_update());
    let traffic = view.traffic.borrow();
    let (samples, taken) = traffic.since(follower.samples);
    let samples: Vec<&Sample> = samples.collect();
    if !samples.is_empty() {
        write(&mut events, "traffic", &samples);
    }
    let (lines, said) = view.tail.since(follower.lines);
    if !lines.is_empty() {
        write(&mut events, "log", &lines);
    }
    (follower.samples, follower.lines) = (taken, said);
    Some((follower, events.into()))
}

/// JSON has no line ends in it, so it is one line whatever anybody has written.
fn write(events: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    if let Ok(json) = serde_json::to_vec(data) {
        events.extend_from_slice(b"event: ");
        events.extend_from_slice(name.as_bytes());
        events.extend_from_slice(b"\ndata: ");
        events.extend_from_slice(&json);
        events.extend_from_slice(b"\n\n");
    }
}
