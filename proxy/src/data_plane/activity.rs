//! What a client's connection is doing, so that a sweep can end those that do nothing for too long.
//!
//! hyper's own header timer costs a boxed sleep for each request, cannot tell an idle connection
//! from a slow head, and closes without an answer (hyperium/hyper#1628, #3743). Here a request costs
//! a few plain stores, and all connections of a worker are looked at twice a second. For the same
//! reason times are counted in sweeps: no clock is read on the way of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// From one sweep to the next: the precision of every limit here.
pub(super) const SWEEP: Duration = Duration::from_millis(500);

/// For the first byte of a connection that was opened just before the port was closed.
const LATE: Duration = SWEEP;

/// A worker's clock, in sweeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Arc<AtomicU32>);

/// What one connection is doing. Shared with hyper's IO object, which has to be `Send`; only one
/// thread ever touches it.
#[derive(Debug)]
pub(super) struct Activity {
    doing: AtomicU8,
    since: AtomicU32,
    is_ended: AtomicBool,
    waits_to_send: AtomicBool,
    clock: Clock,
}

/// What a connection may be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Doing {
    /// It has been opened, and nothing else. Azure's readiness check does only that.
    Nothing,
    /// It sends the head of a request.
    Head,
    /// It waits for an answer, or gets one.
    Request,
    /// It waits for the next request.
    Idle,
    /// It is a tunnel: its own affair.
    Tunnel,
}

/// How long a client may do what.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// For the head of a request, and for the first byte of the first.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
}

/// What the sweep has to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Nobody waits for an answer.
    Close,
    /// Somebody does: 408 first.
    TimedOut,
}

// === impl Clock ===

impl Clock {
    pub(super) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether more than `limit` has passed since then.
    pub(super) fn has_passed(&self, since: u32, limit: Duration) -> bool {
        SWEEP.saturating_mul(self.now().wrapping_sub(since)) > limit
    }
}

// === impl Activity ===

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            doing: AtomicU8::new(Doing::Nothing as u8),
            since: AtomicU32::new(clock.now()),
            is_ended: AtomicBool::new(false),
            waits_to_send: AtomicBool::new(false),
            clock,
        }
    }

    /// Bytes came: between requests they begin a head.
    pub(super) fn received(&self) {
        if matches!(self.doing(), Doing::Nothing | Doing::Idle) {
            self.begin(Doing::Head);
        }
    }

    pub(super) fn begin(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Relaxed);
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    pub(super) fn doing(&self) -> Doing {
        match self.doing.load(Ordering::Relaxed) {
            0 => Doing::Nothing,
            1 => Doing::Head,
            2 => Doing::Request,
            3 => Doing::Idle,
            _ => Doing::Tunnel,
        }
    }

    /// What has outlasted its limit; `is_draining` says that the port is closed, and that nobody is waited
    /// for who has sent nothing yet.
    pub(super) fn verdict(&self, limits: &ClientLimits, is_draining: bool) -> Verdict {
        let since = self.since.load(Ordering::Relaxed);
        let outlasted = |limit| self.clock.has_passed(since, limit);
        match self.doing() {
            Doing::Nothing if outlasted(limits.header_timeout) => Verdict::Close,
            Doing::Nothing if is_draining && outlasted(LATE) => Verdict::Close,
            Doing::Head if outlasted(limits.header_timeout) => Verdict::TimedOut,
            Doing::Idle if outlasted(limits.idle_timeout) => Verdict::Close,
            Doing::Nothing | Doing::Head | Doing::Request | Doing::Idle | Doing::Tunnel => {
                Verdict::Keep
            }
        }
    }

    /// Whether there is more for the client than it takes.
    pub(super) fn set_waits_to_send(&self, waits: bool) {
        self.waits_to_send.store(waits, Ordering::Relaxed);
    }

    pub(super) fn waits_to_send(&self) -> bool {
        self.waits_to_send.load(Ordering::Relaxed)
    }

    /// Its task shall end it.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits {
        header_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(10),
    };

    fn after(activity: &Activity, time: Duration) -> Verdict {
        for _ in 0..=time.as_millis() / SWEEP.as_millis() {
            activity.clock.tick();
        }
        activity.verdict(&LIMITS, false)
    }

    #[test]
    fn a_connection_without_a_byte_is_closed_without_an_answer() {
        let activity = Activity::new(Clock::default());
        assert_eq!(activity.verdict(&LIMITS, false), Verdict::Keep);
        assert_eq!(after(&activity, LIMITS.header_timeout), Verdict::Close);
    }

    #[test]
    fn once_the_port_is_closed_a_connection_without_a_byte_is_not_waited_for() {
        let activity = Activity::new(Clock::default());
        assert_eq!(activity.verdict(&LIMITS, true), Verdict::Keep);
        assert_eq!(after(&activity, LATE), Verdict::Keep);
        assert_eq!(activity.verdict(&LIMITS, true), Verdict::Close);
        // One that sends its request is.
        activity.received();
        assert_eq!(activity.verdict(&LIMITS, true), Verdict::Keep);
    }

    #[test]
    fn a_head_has_to_come_in_time_however_often_a_byte_of_it_does() {
        let activity = Activity::new(Clock::default());
        activity.received();
        assert_eq!(after(&activity, LIMITS.header_timeout / 2), Verdict::Keep);
        activity.received();
        assert_eq!(
            after(&activity, LIMITS.header_timeout / 2),
            Verdict::TimedOut
        );
    }

    #[test]
    fn a_request_may_last_and_the_time_after_it_is_limited() {
        let activity = Activity::new(Clock::default());
        activity.begin(Doing::Request);
        activity.received();
        assert_eq!(after(&activity, 2 * LIMITS.idle_timeout), Verdict::Keep);
        activity.begin(Doing::Idle);
        assert_eq!(after(&activity, LIMITS.header_timeout), Verdict::Keep);
        assert_eq!(after(&activity, LIMITS.idle_timeout), Verdict::Close);
    }
}
