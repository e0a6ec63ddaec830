//! The state of a client's connection, by which a sweep ends those that outlast a limit.
//!
//! hyper's own header timer costs a boxed sleep for each request, cannot tell an idle connection
//! from a slow head, and closes without a response (hyperium/hyper#1628, #3743). Here a request
//! costs a few plain stores, and a worker checks all its connections twice a second.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use super::clock::{Mark, Moment, SWEEP_INTERVAL};
use super::phase::Phase;
use super::settings::ClientLimits;

/// Maximum time to the first byte of a connection that was opened just before the port was closed.
const DRAINING_FIRST_BYTE: Duration = SWEEP_INTERVAL;

/// Maximum time for which a client may send what nobody reads.
const LINGER_TIME: Duration = Duration::from_secs(30);

/// The same once the port is closed.
const DRAINING_LINGER_TIME: Duration = Duration::from_secs(2);
/// Time for which a connection may be idle when another process accepts: its client may be about to send
/// a request, which would be lost.
const LEAVING_IDLE_TIME: Duration = Duration::from_secs(10);

/// Number of bytes after which a connection lets the others of its worker go on.
pub(super) const TURN: u32 = 256 * 1024;

/// The state of one connection. It is shared with hyper's IO object, which has to be `Send`; only
/// one thread accesses it.
#[derive(Debug)]
pub(super) struct Activity {
    state: AtomicU8,
    since: AtomicU32,
    is_close_requested: AtomicBool,
    is_parking_requested: AtomicBool,
    body: AtomicU8,
    ending: AtomicU8,
    is_read_blocked: AtomicBool,
    is_write_blocked: AtomicBool,
    is_shut_down: AtomicBool,
    progress: AtomicU32,
    received: AtomicU32,
    sent: AtomicU32,
    /// Bytes that may pass in this turn.
    turn: AtomicU32,
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
    /// A tunnel, which may be idle.
    Tunnel,
    /// A tunnel that the app has ended, and the client is to end.
    EndingTunnel,
    /// HTTP/2 without an open stream; with one, `Request`.
    IdleHttp2,
    /// Closed for sending. What the client still sends is thrown away.
    Lingering,
}

/// The body of the present request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum BodyState {
    /// No more of a body is wanted.
    Unwanted,
    /// It is on its way to the app, which has not responded yet.
    Wanted,
    /// The same, and the client is too slow with it.
    Overdue,
    /// It is on its way to the app beside the response.
    BesideResponse,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ending {
    /// A close: the client sends nothing more.
    Close,
    /// A close for sending only, as the client may still send.
    Linger,
    /// The same, and it follows the present response.
    LingerNext,
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

// === impl ClientState ===

impl ClientState {
    /// Returns `true` for a connection that is not HTTP any more.
    pub(super) fn is_tunnel(self) -> bool {
        matches!(self, Self::Tunnel | Self::EndingTunnel)
    }
}

// === impl Activity ===

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU8::new(ClientState::Opened as u8),
            since: AtomicU32::new(Mark::NEW.to_bits()),
            is_close_requested: AtomicBool::new(false),
            is_parking_requested: AtomicBool::new(false),
            body: AtomicU8::new(BodyState::Unwanted as u8),
            ending: AtomicU8::new(Ending::Close as u8),
            is_read_blocked: AtomicBool::new(false),
            is_write_blocked: AtomicBool::new(false),
            is_shut_down: AtomicBool::new(false),
            progress: AtomicU32::new(0),
            received: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            turn: AtomicU32::new(TURN),
        }
    }

    /// Records the arrival of bytes, and returns `true` if they begin a head: those between two
    /// requests do.
    pub(super) fn record_read(&self, length: usize) -> bool {
        self.is_read_blocked.store(false, Ordering::Relaxed);
        self.count(&self.received, length);
        let is_head = matches!(self.state(), ClientState::Opened | ClientState::Idle);
        if is_head {
            self.enter(ClientState::Head);
        }
        is_head
    }

    /// Records that hyper awaits bytes.
    pub(super) fn await_bytes(&self) {
        self.is_read_blocked.store(true, Ordering::Relaxed);
    }

    /// Records a write; without bytes the client does not take all that it is sent.
    pub(super) fn record_write(&self, length: usize) {
        self.is_write_blocked.store(length == 0, Ordering::Relaxed);
        self.count(&self.sent, length);
    }

    /// Records if what was written waits for the client.
    pub(super) fn record_flush(&self, is_pending: bool) {
        self.is_write_blocked.store(is_pending, Ordering::Relaxed);
    }

    /// Records that nothing more is sent.
    pub(super) fn record_shutdown(&self) {
        self.is_shut_down.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Relaxed)
    }

    /// Counts bytes. Nothing else changes the counters meanwhile.
    fn count(&self, counter: &AtomicU32, length: usize) {
        let length = length as u32;
        let bytes = counter.load(Ordering::Relaxed).wrapping_add(length);
        counter.store(bytes, Ordering::Relaxed);
        let left = self.turn.load(Ordering::Relaxed).saturating_sub(length);
        self.turn.store(left, Ordering::Relaxed);
    }

    /// Begins a turn of the connection's task, in which this number of bytes may pass.
    pub(super) fn begin_turn(&self, bytes: u32) {
        self.turn.store(bytes, Ordering::Relaxed);
    }

    /// Returns `true` if so much has passed in this turn that others are to go on.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn.load(Ordering::Relaxed) == 0
    }

    /// Counts a request that has begun, or a part of a body that has passed, on a connection of HTTP/2.
    pub(super) fn count_progress(&self) {
        let progress = self.progress.load(Ordering::Relaxed);
        self.progress
            .store(progress.saturating_add(1), Ordering::Relaxed);
    }

    /// Returns the progress since it was asked for last.
    pub(super) fn take_progress(&self) -> u32 {
        let progress = self.progress.load(Ordering::Relaxed);
        self.progress.store(0, Ordering::Relaxed);
        progress
    }

    pub(super) fn enter(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.since.store(Mark::NEW.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> ClientState {
        match self.state.load(Ordering::Relaxed) {
            0 => ClientState::Opened,
            1 => ClientState::Head,
            2 => ClientState::Request,
            3 => ClientState::Idle,
            4 => ClientState::Tunnel,
            5 => ClientState::EndingTunnel,
            6 => ClientState::IdleHttp2,
            _ => ClientState::Lingering,
        }
    }

    /// Dates the present state, and returns `true` if it has been entered since the last sweep.
    pub(super) fn date(&self, now: Moment) -> bool {
        let since = Mark::from_bits(self.since.load(Ordering::Relaxed));
        let dated = since.dated(now);
        self.since.store(dated.to_bits(), Ordering::Relaxed);
        since == Mark::NEW
    }

    /// Returns the action for the time that the connection has spent in its state. From
    /// [`Phase::Draining`] on, a connection without a byte is closed soon.
    pub(super) fn idle_action(
        &self,
        limits: &ClientLimits,
        phase: Phase,
        now: Moment,
    ) -> IdleAction {
        let age = Mark::from_bits(self.since.load(Ordering::Relaxed)).age(now);
        match self.state() {
            ClientState::Opened if age >= limits.header_timeout => IdleAction::Close,
            ClientState::Opened if phase >= Phase::Draining && age >= DRAINING_FIRST_BYTE => {
                IdleAction::Close
            }
            ClientState::Idle if phase >= Phase::Leaving && age >= LEAVING_IDLE_TIME => {
                IdleAction::Close
            }
            ClientState::Head if age >= limits.header_timeout => IdleAction::SendTimeout,
            ClientState::Idle | ClientState::IdleHttp2 if age >= limits.idle_timeout => {
                IdleAction::Close
            }
            // Its client has been told, and may have gone.
            ClientState::IdleHttp2 if phase >= Phase::Leaving && age >= DRAINING_LINGER_TIME => {
                IdleAction::Close
            }
            ClientState::Lingering if age >= LINGER_TIME => IdleAction::Close,
            ClientState::Lingering if phase >= Phase::Draining && age >= DRAINING_LINGER_TIME => {
                IdleAction::Close
            }
            ClientState::Opened
            | ClientState::Head
            | ClientState::Request
            | ClientState::Idle
            | ClientState::Tunnel
            | ClientState::EndingTunnel
            | ClientState::IdleHttp2
            | ClientState::Lingering => IdleAction::Keep,
        }
    }

    /// Returns the time for which the first byte of a request, or the client's close, is awaited, if
    /// it is.
    pub(super) fn idle_time(&self, now: Moment) -> Option<Duration> {
        let is_idle = matches!(
            self.state(),
            ClientState::Opened
                | ClientState::Idle
                | ClientState::IdleHttp2
                | ClientState::Lingering
        );
        let since = Mark::from_bits(self.since.load(Ordering::Relaxed));
        is_idle.then(|| since.age(now))
    }

    /// Returns the number of bytes received, which may wrap around.
    pub(super) fn received(&self) -> u32 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes sent, which may wrap around.
    pub(super) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns `true` if more of a body, or the end of a tunnel, is awaited from the client.
    pub(super) fn awaits_bytes(&self) -> bool {
        let is_wanted = match self.state() {
            ClientState::Request => self.body() != BodyState::Unwanted,
            // The rest of a body comes before the new protocol.
            ClientState::Tunnel => self.body() != BodyState::Unwanted,
            ClientState::EndingTunnel => true,
            ClientState::Opened
            | ClientState::Head
            | ClientState::Idle
            | ClientState::IdleHttp2
            | ClientState::Lingering => false,
        };
        is_wanted && self.is_read_blocked.load(Ordering::Relaxed)
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.is_write_blocked.load(Ordering::Relaxed)
    }

    pub(super) fn set_body(&self, body: BodyState) {
        self.body.store(body as u8, Ordering::Relaxed);
    }

    pub(super) fn body(&self) -> BodyState {
        match self.body.load(Ordering::Relaxed) {
            0 => BodyState::Unwanted,
            1 => BodyState::Wanted,
            2 => BodyState::Overdue,
            _ => BodyState::BesideResponse,
        }
    }

    pub(super) fn set_ending(&self, ending: Ending) {
        self.ending.store(ending as u8, Ordering::Relaxed);
    }

    pub(super) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Relaxed) {
            0 => Ending::Close,
            1 => Ending::Linger,
            _ => Ending::LingerNext,
        }
    }

    /// Returns `true` if the client may still send what would be unread at a close.
    pub(super) fn client_may_send(&self) -> bool {
        match self.state() {
            // hyper has refused this head, or reads no more of a body.
            ClientState::Head => true,
            ClientState::Opened
            | ClientState::Request
            | ClientState::Idle
            | ClientState::IdleHttp2 => self.ending() != Ending::Close,
            ClientState::Tunnel | ClientState::EndingTunnel | ClientState::Lingering => false,
        }
    }

    /// Asks the connection's task to end it.
    pub(super) fn request_close(&self) {
        self.is_close_requested.store(true, Ordering::Relaxed);
    }

    /// Withdraws that: the task has ended, and another one takes over.
    pub(super) fn withdraw_close(&self) {
        self.is_close_requested.store(false, Ordering::Relaxed);
    }

    /// Asks the connection's task to park it.
    pub(super) fn request_parking(&self) {
        self.is_parking_requested.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_parking_requested(&self) -> bool {
        self.is_parking_requested.load(Ordering::Relaxed)
    }

    /// Withdraws that, done or not.
    pub(super) fn withdraw_parking(&self) {
        self.is_parking_requested.store(false, Ordering::Relaxed);
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
        timeout: Duration::from_secs(60),
        min_rate: 0,
    };

    /// A connection, and the clock of its worker.
    struct Swept(Activity, Moment);

    impl Swept {
        fn new() -> Self {
            let swept = Self(Activity::new(), Moment::from_millis(1));
            swept.0.date(swept.1);
            swept
        }

        fn action(&self, phase: Phase) -> IdleAction {
            self.0.date(self.1);
            self.0.idle_action(&LIMITS, phase, self.1)
        }

        fn after(&mut self, time: Duration) -> IdleAction {
            self.action(Phase::Serving);
            self.1 = self.1.after(time);
            self.action(Phase::Serving)
        }
    }

    #[test]
    fn a_connection_without_a_byte_is_closed_without_an_answer() {
        let mut swept = Swept::new();
        assert_eq!(swept.action(Phase::Serving), IdleAction::Keep);
        assert_eq!(swept.after(LIMITS.header_timeout), IdleAction::Close);
    }

    #[test]
    fn once_the_port_is_closed_a_connection_without_a_byte_is_not_waited_for() {
        let mut swept = Swept::new();
        assert_eq!(swept.action(Phase::Draining), IdleAction::Keep);
        assert_eq!(swept.after(DRAINING_FIRST_BYTE), IdleAction::Keep);
        assert_eq!(swept.action(Phase::Draining), IdleAction::Close);
        // A connection that sends its request is.
        swept.0.record_read(1);
        assert_eq!(swept.action(Phase::Draining), IdleAction::Keep);
    }

    #[test]
    fn a_head_has_to_come_in_time_however_often_a_byte_of_it_does() {
        let mut swept = Swept::new();
        swept.0.record_read(1);
        assert_eq!(swept.after(LIMITS.header_timeout / 2), IdleAction::Keep);
        swept.0.record_read(1);
        let action = swept.after(LIMITS.header_timeout / 2);
        assert_eq!(action, IdleAction::SendTimeout);
    }

    #[test]
    fn a_request_may_last_and_the_time_after_it_is_limited() {
        let mut swept = Swept::new();
        swept.0.enter(ClientState::Request);
        swept.0.record_read(1);
        assert_eq!(swept.after(2 * LIMITS.idle_timeout), IdleAction::Keep);
        swept.0.enter(ClientState::Idle);
        assert_eq!(swept.after(LIMITS.header_timeout), IdleAction::Keep);
        assert_eq!(swept.after(LIMITS.idle_timeout), IdleAction::Close);
    }

    #[test]
    fn a_turn_ends_after_so_many_bytes_of_both_directions() {
        let activity = Activity::new();
        activity.record_read(TURN as usize / 2);
        assert!(!activity.is_turn_over());
        activity.record_write(TURN as usize / 2);
        assert!(activity.is_turn_over());
        activity.begin_turn(TURN);
        assert!(!activity.is_turn_over());
    }
}
