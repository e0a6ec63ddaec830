//! The streams of a client's connection of HTTP/2, and the work that its client asks for without any.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::activity::{Activity, ClientState, TURN};

/// Time for which what a client does too often is counted.
const PERIOD: Duration = Duration::from_secs(30);
/// Maximum number of streams that a client may cancel in a period, beyond those that it lets end: each
/// of them costs a request to the app (rapid reset, CVE-2023-44487).
const MAX_CANCELLED: u32 = 256;
/// Maximum number of bytes in a period that neither begin a request nor are a part of a body. What the
/// windows let a client send ahead of an app that takes nothing is below it.
const MAX_IDLE: u32 = 4 * 1024 * 1024;
/// Number of such bytes after which a connection has shorter turns: they may be thousands of frames.
const MANY_IDLE: u32 = 1024 * 1024;
const SHORT_TURN: u32 = 16 * 1024;
/// Number of bytes that a request, or a part of a body, may take: more than the largest frame.
const USEFUL: u32 = 64 * 1024;

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct ClientStreams {
    activity: Arc<Activity>,
    open: Cell<usize>,
    /// Those that were cancelled in this period, less those that have ended.
    cancelled: Cell<u32>,
    since: Cell<Instant>,
}

/// An open stream, counted until its last handle is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Rc<ClientStreams>,
    has_ended: Cell<bool>,
}

/// The bytes of a connection that ask for work beside its requests: settings, pings, and the like.
#[derive(Debug)]
pub(super) struct IdleBytes {
    count: u32,
    since: Instant,
}

// === impl ClientStreams ===

impl ClientStreams {
    pub(super) fn new(activity: &Arc<Activity>) -> Rc<Self> {
        Rc::new(Self {
            activity: Arc::clone(activity),
            open: Cell::new(0),
            cancelled: Cell::new(0),
            since: Cell::new(Instant::now()),
        })
    }

    pub(super) fn open(self: &Rc<Self>) -> Rc<OpenStream> {
        self.open.set(self.open.get() + 1);
        self.activity.enter(ClientState::Request);
        self.activity.count_progress();
        Rc::new(OpenStream {
            streams: Rc::clone(self),
            has_ended: Cell::new(false),
        })
    }

    pub(super) fn are_cancelled_too_often(&self) -> bool {
        self.cancelled.get() > MAX_CANCELLED
    }

    /// Records the end of a stream, by its client or not.
    fn record_end(&self, is_cancelled: bool) {
        self.open.set(self.open.get() - 1);
        let before = self.cancelled.get();
        if !is_cancelled {
            self.cancelled.set(before.saturating_sub(1));
        } else if self.since.get().elapsed() > PERIOD {
            self.cancelled.set(1);
            self.since.set(Instant::now());
        } else {
            self.cancelled.set(before + 1);
        }
        // A stream may outlast its connection, which lingers then.
        if self.open.get() == 0 && self.activity.state() == ClientState::Request {
            self.activity.enter(ClientState::IdleHttp2);
        }
    }
}

// === impl OpenStream ===

impl OpenStream {
    /// Marks that its client has not cancelled it.
    pub(super) fn mark_ended(&self) {
        self.has_ended.set(true);
    }

    /// Counts a part of one of its bodies that has passed.
    pub(super) fn count_progress(&self) {
        self.streams.activity.count_progress();
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.record_end(!self.has_ended.get());
    }
}

// === impl IdleBytes ===

impl IdleBytes {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            since: Instant::now(),
        }
    }

    /// Records the bytes that were received in a turn, and the number of requests that have begun and of
    /// parts of bodies that have passed before it.
    pub(super) fn record(&mut self, received: u32, progress: u32) {
        self.count = self.count.saturating_sub(progress.saturating_mul(USEFUL));
        if received == 0 {
            return;
        }
        if self.count == 0 || self.since.elapsed() > PERIOD {
            *self = Self::new();
        }
        self.count = self.count.saturating_add(received);
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.count > MAX_IDLE
    }

    /// Returns the number of bytes that may pass in the next turn.
    pub(super) fn next_turn(&self) -> u32 {
        if self.count > MANY_IDLE {
            SHORT_TURN
        } else {
            TURN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_without_progress_shorten_turns_and_then_are_too_many() {
        let mut idle = IdleBytes::new();
        let record = |idle: &mut IdleBytes, bytes: u32, progress| {
            for _ in 0..bytes / SHORT_TURN {
                idle.record(SHORT_TURN, progress);
                // A turn may send only.
                idle.record(0, 0);
            }
        };
        record(&mut idle, 2 * MAX_IDLE, 1);
        assert_eq!(idle.next_turn(), TURN);
        record(&mut idle, MANY_IDLE, 0);
        assert_eq!(idle.next_turn(), SHORT_TURN);
        record(&mut idle, MAX_IDLE - MANY_IDLE - SHORT_TURN, 0);
        assert!(!idle.are_too_many());
        idle.record(SHORT_TURN, 0);
        assert!(idle.are_too_many());
        idle.record(0, MAX_IDLE / USEFUL);
        assert_eq!(idle.next_turn(), TURN);
        record(&mut idle, MAX_IDLE, 0);
        tokio::time::advance(PERIOD + Duration::from_secs(1)).await;
        idle.record(1, 0);
        assert_eq!((idle.are_too_many(), idle.next_turn()), (false, TURN));
    }
}
