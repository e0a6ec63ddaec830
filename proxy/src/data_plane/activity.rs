//! The state of a client's connection, by which a sweep ends those that are idle for too long.
//!
//! hyper's own header timer costs a boxed sleep for each request, cannot tell an idle connection
//! from a slow head, and closes without a response (hyperium/hyper#1628, #3743). Here a request
//! costs a few plain stores, and a worker checks all its connections twice a second. Times are
//! counted in sweeps, so that a request reads no clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use super::phase::Phase;
use super::settings::ClientLimits;

/// Interval of the sweeps: the precision of every limit here.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum time to the first byte of a connection that was opened just before the port was closed.
const DRAINING_FIRST_BYTE: Duration = SWEEP_INTERVAL;

/// The clock of a worker. One tick is one sweep.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Arc<AtomicU32>);

/// The state of one connection. It is shared with hyper's IO object, which has to be `Send`; only
/// one thread accesses it.
#[derive(Debug)]
pub(super) struct Activity {
    state: AtomicU8,
    since: AtomicU32,
    is_close_requested: AtomicBool,
    is_write_blocked: AtomicBool,
    clock: Clock,
}

/// The state of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ClientState {
    /// Open, without a byte so far. Azure's readiness check does only that.
    Opened,
    /// Receiving the head of a request.
    Head,
    /// Serving a request.
    Request,
    /// Awaiting the next request.
    Idle,
    /// A tunnel, without limits.
    Tunnel,
}

/// The action of the sweep on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    Keep,
    /// Closes it: the client awaits no response.
    Close,
    /// Sends a 408 and closes it: the client awaits a response.
    SendTimeout,
}

// === impl Clock ===

impl Clock {
    pub(super) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns `true` if more than `limit` has passed since the tick `since`.
    pub(super) fn has_passed(&self, since: u32, limit: Duration) -> bool {
        SWEEP_INTERVAL.saturating_mul(self.now().wrapping_sub(since)) > limit
    }
}

// === impl Activity ===

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            state: AtomicU8::new(ClientState::Opened as u8),
            since: AtomicU32::new(clock.now()),
            is_close_requested: AtomicBool::new(false),
            is_write_blocked: AtomicBool::new(false),
            clock,
        }
    }

    /// Records the arrival of bytes, and returns `true` if they begin a head: those between two
    /// requests do.
    pub(super) fn record_bytes(&self) -> bool {
        let is_head = matches!(self.state(), ClientState::Opened | ClientState::Idle);
        if is_head {
            self.enter(ClientState::Head);
        }
        is_head
    }

    pub(super) fn enter(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> ClientState {
        match self.state.load(Ordering::Relaxed) {
            0 => ClientState::Opened,
            1 => ClientState::Head,
            2 => ClientState::Request,
            3 => ClientState::Idle,
            _ => ClientState::Tunnel,
        }
    }

    /// Returns the action for the time that the connection has spent in its state. From
    /// [`Phase::Draining`] on, a connection without a byte is closed soon.
    pub(super) fn idle_action(&self, limits: &ClientLimits, phase: Phase) -> IdleAction {
        let since = self.since.load(Ordering::Relaxed);
        let outlasted = |limit| self.clock.has_passed(since, limit);
        match self.state() {
            ClientState::Opened if outlasted(limits.header_timeout) => IdleAction::Close,
            ClientState::Opened if phase >= Phase::Draining && outlasted(DRAINING_FIRST_BYTE) => {
                IdleAction::Close
            }
            ClientState::Head if outlasted(limits.header_timeout) => IdleAction::SendTimeout,
            ClientState::Idle if outlasted(limits.idle_timeout) => IdleAction::Close,
            ClientState::Opened
            | ClientState::Head
            | ClientState::Request
            | ClientState::Idle
            | ClientState::Tunnel => IdleAction::Keep,
        }
    }

    /// Returns the number of sweeps for which the first byte of a request is awaited, if it is.
    pub(super) fn idle_sweeps(&self) -> Option<u32> {
        let is_idle = matches!(self.state(), ClientState::Opened | ClientState::Idle);
        let since = self.since.load(Ordering::Relaxed);
        is_idle.then(|| self.clock.now().wrapping_sub(since))
    }

    /// Records that the client does not take all that it is sent, or that it does again.
    pub(super) fn set_write_blocked(&self, waits: bool) {
        self.is_write_blocked.store(waits, Ordering::Relaxed);
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.is_write_blocked.load(Ordering::Relaxed)
    }

    /// Asks the connection's task to end it.
    pub(super) fn request_close(&self) {
        self.is_close_requested.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_close_requested(&self) -> bool {
        self.is_close_requested.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits {
        header_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(10),
    };

    fn after(activity: &Activity, time: Duration) -> IdleAction {
        for _ in 0..=time.as_millis() / SWEEP_INTERVAL.as_millis() {
            activity.clock.tick();
        }
        activity.idle_action(&LIMITS, Phase::Serving)
    }

    #[test]
    fn a_connection_without_a_byte_is_closed_without_an_answer() {
        let activity = Activity::new(Clock::default());
        assert_eq!(
            activity.idle_action(&LIMITS, Phase::Serving),
            IdleAction::Keep
        );
        assert_eq!(after(&activity, LIMITS.header_timeout), IdleAction::Close);
    }

    #[test]
    fn once_the_port_is_closed_a_connection_without_a_byte_is_not_waited_for() {
        let activity = Activity::new(Clock::default());
        assert_eq!(
            activity.idle_action(&LIMITS, Phase::Draining),
            IdleAction::Keep
        );
        assert_eq!(after(&activity, DRAINING_FIRST_BYTE), IdleAction::Keep);
        assert_eq!(
            activity.idle_action(&LIMITS, Phase::Draining),
            IdleAction::Close
        );
        // A connection that sends its request is.
        activity.record_bytes();
        assert_eq!(
            activity.idle_action(&LIMITS, Phase::Draining),
            IdleAction::Keep
        );
    }

    #[test]
    fn a_head_has_to_come_in_time_however_often_a_byte_of_it_does() {
        let activity = Activity::new(Clock::default());
        activity.record_bytes();
        assert_eq!(
            after(&activity, LIMITS.header_timeout / 2),
            IdleAction::Keep
        );
        activity.record_bytes();
        assert_eq!(
            after(&activity, LIMITS.header_timeout / 2),
            IdleAction::SendTimeout
        );
    }

    #[test]
    fn a_request_may_last_and_the_time_after_it_is_limited() {
        let activity = Activity::new(Clock::default());
        activity.enter(ClientState::Request);
        activity.record_bytes();
        assert_eq!(after(&activity, 2 * LIMITS.idle_timeout), IdleAction::Keep);
        activity.enter(ClientState::Idle);
        assert_eq!(after(&activity, LIMITS.header_timeout), IdleAction::Keep);
        assert_eq!(after(&activity, LIMITS.idle_timeout), IdleAction::Close);
    }
}
