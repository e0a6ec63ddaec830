//! The client connections of one worker.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;

use super::activity::{Activity, BodyState, ClientState, IdleAction};
use super::bound::BoundSlot;
use super::client_streams::OpenStream;
use super::clock::{Moment, SWEEP_INTERVAL};
use super::headers::Peer;
use super::pace::Pace;
use super::phase::Phase;
use super::settings::{ClientLimits, DataPlaneSettings};
use super::stream::Stream;
use crate::release::Generation;

/// Response to a head that did not arrive in time. Without a length the client would wait for the
/// close.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Time for which a connection has to be idle before it makes room for another one: a client that
/// goes on using its connection keeps it.
const MIN_IDLE: Duration = SWEEP_INTERVAL;
/// Time for which a connection has to be idle before it is parked: clients that send one request after
/// the other do not pay for it.
const PARK_AFTER: Duration = Duration::from_secs(2);
/// Share of the idle connections that are closed at a time, and its maximum: to look for them takes
/// time.
const ROOM_SHARE: usize = 8;
const MAX_ROOM: usize = 32;

/// The client connections of one worker, tunnels included.
#[derive(Debug)]
pub(super) struct Connections {
    tracked: RefCell<Slab<TrackedConnection>>,
    phase: Cell<Phase>,
    open: Arc<AtomicUsize>,
    /// True while nothing has to be swept.
    is_at_rest: Cell<bool>,
    changed: Notify,
    /// Number of connections that were parked since memory was given back.
    parked: Cell<usize>,
    /// Moment of the last sweep after which no connection was idle for long enough.
    all_busy: Cell<Option<Moment>>,
}

/// An entry of the registry: what the sweep examines, and the task that it wakes.
#[derive(Debug)]
struct TrackedConnection {
    client: Rc<Client>,
    waker: Waker,
    /// The pace at which the client sends what is awaited.
    sending: Pace,
    /// The pace at which it takes what it is sent.
    taking: Pace,
    /// True if it is parked.
    is_parked: bool,
    /// Time from a moment for which the sweep need not look at it.
    rests: Option<(Moment, Duration)>,
}

/// An entry in the registry; its drop removes it.
#[derive(Debug)]
pub(super) struct Tracking {
    connections: Rc<Connections>,
    key: usize,
}

/// One open connection, counted from its accept until it or its tunnel ends.
#[derive(Debug)]
pub(super) enum OpenConnection {
    /// The connection itself.
    Own(Rc<Connections>),
    /// A stream of a connection, which is counted once for all of them.
    OfStream(Rc<Client>, Rc<OpenStream>),
}

/// A client's connection; lives until the connection, or a tunnel made of it, has ended.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) stream: Stream,
    pub(super) activity: Arc<Activity>,
    /// The connection to the app that is this client's alone, if it has one.
    pub(super) bound: BoundSlot,
    pub(super) open: OpenConnection,
}

// === impl Client ===

impl Client {
    /// Marks the connection as idle: the response is complete.
    pub(super) fn begin_idle(&self) {
        self.activity.enter(ClientState::Idle);
    }

    /// Registers the connection for the sweep, which wakes the task of `waker`.
    pub(super) fn track(self: &Rc<Self>, waker: &Waker) -> Tracking {
        self.track_as(waker, false)
    }

    /// Registers a parked connection.
    pub(super) fn track_parked(self: &Rc<Self>, waker: &Waker) -> Tracking {
        let connections = self.open.connections();
        connections.parked.set(connections.parked.get() + 1);
        self.track_as(waker, true)
    }

    fn track_as(self: &Rc<Self>, waker: &Waker, is_parked: bool) -> Tracking {
        let connections = self.open.connections();
        let key = connections.tracked.borrow_mut().insert(TrackedConnection {
            client: Rc::clone(self),
            waker: waker.clone(),
            sending: Pace::default(),
            taking: Pace::default(),
            is_parked,
            rests: None,
        });
        Tracking {
            connections: Rc::clone(connections),
            key,
        }
    }

    /// Makes the close that follows a reset, so that an incomplete response does not look complete.
    pub(super) fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }
}

// === impl Connections ===

impl Connections {
    /// Returns an empty registry; `open` counts the connections of the worker.
    pub(super) fn new(open: Arc<AtomicUsize>) -> Self {
        Self {
            tracked: RefCell::default(),
            phase: Cell::new(Phase::Serving),
            open,
            is_at_rest: Cell::new(false),
            changed: Notify::new(),
            parked: Cell::new(0),
            all_busy: Cell::new(None),
        }
    }

    /// Enters a phase. From [`Phase::Draining`] on idle connections are closed, and every other one
    /// after its current request.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        for (_, tracked) in &mut *self.tracked.borrow_mut() {
            tracked.rests = None;
            tracked.waker.wake_by_ref();
        }
    }

    /// Ends connections that have outlasted a time limit, and those whose clients have left.
    pub(super) fn sweep(&self, settings: &DataPlaneSettings, now: Moment) {
        for (_, tracked) in &mut *self.tracked.borrow_mut() {
            tracked.sweep(settings, self.phase.get(), now);
        }
    }

    /// Closes those connections that have been idle for longest, for others that wait: first those
    /// whose response is sent and whose clients are to close them, then those that have sent nothing
    /// at all. `now` is the moment of the last sweep.
    pub(super) fn make_room(&self, now: Moment) {
        if self.all_busy.get() == Some(now) {
            return;
        }
        let tracked = self.tracked.borrow();
        let mut idle: Vec<(usize, Reverse<Duration>, usize)> = tracked
            .iter()
            .filter_map(|(key, TrackedConnection { client, .. })| {
                // To end a stream makes no room.
                if client.open.stream().is_some() {
                    return None;
                }
                let time = client.activity.idle_time(now)?;
                let rank = match client.activity.state() {
                    ClientState::Lingering => 0,
                    ClientState::Opened => 1,
                    ClientState::Head
                    | ClientState::Request
                    | ClientState::Idle
                    | ClientState::Tunnel
                    | ClientState::EndingTunnel
                    | ClientState::IdleHttp2 => 2,
                };
                (time >= MIN_IDLE).then_some((rank, Reverse(time), key))
            })
            .collect();
        if idle.is_empty() {
            return self.all_busy.set(Some(now));
        }
        idle.sort_unstable();
        let room = (idle.len() / ROOM_SHARE).clamp(1, MAX_ROOM);
        for (.., key) in &idle[..room] {
            let TrackedConnection { client, waker, .. } = &tracked[*key];
            // A request that has just arrived is served.
            let is_lingering = client.activity.state() == ClientState::Lingering;
            if is_lingering || client.stream.is_quiet_per_reactor() {
                client.activity.request_close();
                waker.wake_by_ref();
            }
        }
    }

    /// Ends the clients' own connections to a generation that gets no new requests.
    pub(super) fn supersede(&self, generation: Generation) {
        for (_, tracked) in &*self.tracked.borrow() {
            tracked.client.bound.supersede(generation);
        }
    }

    /// Ends the clients' own connections to a generation whose drain is over.
    pub(super) fn evict(&self, generation: Generation) {
        for (_, tracked) in &*self.tracked.borrow() {
            tracked.client.bound.evict(generation);
        }
    }

    /// Returns `true` if a connection has to end after its current request.
    ///
    /// A connection that has just been opened may still send its first request; the sweep ends it if
    /// none arrives.
    pub(super) fn should_close(&self, client: &Client) -> bool {
        self.phase.get() >= Phase::Draining && client.activity.state() != ClientState::Opened
    }

    /// Returns `true` if a client is to be told that its connection ends after the requests that are
    /// under way.
    pub(super) fn should_announce_end(&self, client: &Client) -> bool {
        self.phase.get() >= Phase::Leaving && client.activity.state() != ClientState::Opened
    }

    /// Returns the number of open connections, tunnels included.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns `true` once the worker is to end and its last connection has ended.
    pub(super) fn is_drained(&self) -> bool {
        self.phase.get() >= Phase::Leaving && self.open() == 0
    }

    /// Returns the number of connections that were parked since the last call.
    pub(super) fn take_parked(&self) -> usize {
        self.parked.take()
    }

    /// Returns true while no sweep is needed: a worker without connections sleeps.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_at_rest.get()
    }

    /// Lets sweeps rest until a client connects, if none is connected.
    pub(super) fn rest_if_unused(&self) {
        self.is_at_rest.set(self.open.load(Ordering::Relaxed) == 0);
    }

    /// Waits until a connection has ended, or has been opened at rest.
    pub(super) async fn wait_for_change(&self) {
        self.changed.notified().await;
    }
}

// === impl TrackedConnection ===

impl TrackedConnection {
    /// Ends the connection if it has outlasted a time limit, or if its client has left.
    fn sweep(&mut self, settings: &DataPlaneSettings, phase: Phase, now: Moment) {
        if self
            .rests
            .is_some_and(|(from, time)| now.since(from) < time)
        {
            return;
        }
        let client = Rc::clone(&self.client);
        client.bound.sweep();
        let activity = &client.activity;
        if activity.date(now) {
            self.sending.restart();
            self.taking.restart();
        }
        let is_stalled = self.judge(&settings.client, now);
        match activity.idle_action(&settings.client, phase, now) {
            IdleAction::Keep if is_stalled || self.has_left(settings) => {}
            IdleAction::Keep => {
                // A first response that takes this long is watched by the reactor from now on.
                let _ = client.stream.register();
                self.park(settings, phase, now);
                return;
            }
            IdleAction::SendTimeout if !activity.is_write_blocked() => {
                client.stream.send_best_effort(REQUEST_TIMEOUT);
                client.stream.begin_lingering(activity);
            }
            IdleAction::SendTimeout | IdleAction::Close => {}
        }
        if is_stalled || activity.is_write_blocked() {
            // The rest of a response, or of a request, is lost with the connection.
            client.reset_on_close();
        }
        activity.request_close();
        self.waker.wake_by_ref();
    }

    /// Lets the connection be parked once it has been idle for a while; then only its time limit is
    /// left to watch.
    fn park(&mut self, settings: &DataPlaneSettings, phase: Phase, now: Moment) {
        let activity = &self.client.activity;
        if activity.state() != ClientState::Idle {
            return;
        }
        let Some(idle) = activity.idle_time(now).filter(|idle| *idle >= PARK_AFTER) else {
            return;
        };
        if !self.is_parked {
            activity.request_parking();
            self.waker.wake_by_ref();
        } else if phase < Phase::Leaving {
            let left = settings.client.idle_timeout.saturating_sub(idle);
            self.rests = Some((now, left));
        }
    }

    /// Judges the pace of both directions, and returns `true` if the connection has to end. A request
    /// without a response gets one first.
    fn judge(&mut self, limits: &ClientLimits, now: Moment) -> bool {
        let activity = &self.client.activity;
        let is_blocked = activity.is_write_blocked() && !self.client.open.is_blocked();
        let unsent = if is_blocked {
            self.client.stream.unsent()
        } else {
            0
        };
        let taken = activity.sent().wrapping_sub(unsent);
        let takes_too_little = self.taking.judge(taken, is_blocked, now, limits);
        let (received, is_awaited) = (activity.received(), activity.awaits_bytes());
        let sends_too_little = self.sending.judge(received, is_awaited, now, limits);
        match activity.body() {
            BodyState::Wanted | BodyState::Overdue => {
                if sends_too_little {
                    activity.set_body(BodyState::Overdue);
                    self.waker.wake_by_ref();
                } else {
                    activity.set_body(BodyState::Wanted);
                }
                takes_too_little
            }
            BodyState::Unwanted | BodyState::BesideResponse => takes_too_little || sends_too_little,
        }
    }

    /// Returns `true` if the client has left.
    ///
    /// hyper would look for the end of the stream twice in every request, and still detect a client's
    /// departure only after reading all that came before: not behind an unread body, and not behind
    /// the next request. hyper is therefore configured to accept half-closed connections, and the
    /// sweep checks them.
    fn has_left(&self, settings: &DataPlaneSettings) -> bool {
        let Client {
            stream, activity, ..
        } = &*self.client;
        match activity.state() {
            ClientState::Request => !settings.half_close && stream.is_read_closed(),
            ClientState::Tunnel | ClientState::EndingTunnel => stream.has_failed(),
            ClientState::Opened
            | ClientState::Head
            | ClientState::Idle
            | ClientState::IdleHttp2
            | ClientState::Lingering => false,
        }
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        // The entry is dropped after the borrow has ended.
        let _tracked = self.connections.tracked.borrow_mut().remove(self.key);
    }
}

// === impl OpenConnection ===

impl OpenConnection {
    /// Takes over a connection that has been counted already.
    pub(super) fn new(connections: &Rc<Connections>) -> Self {
        if connections.is_at_rest.replace(false) {
            connections.changed.notify_one();
        }
        Self::Own(Rc::clone(connections))
    }

    /// Returns `true` for a stream on a connection whose client takes nothing of any.
    fn is_blocked(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::OfStream(client, _) => client.activity.is_write_blocked(),
        }
    }

    /// Returns the stream of many on a connection, whose bodies no sweep sees.
    pub(super) fn stream(&self) -> Option<&Rc<OpenStream>> {
        match self {
            Self::Own(_) => None,
            Self::OfStream(_, stream) => Some(stream),
        }
    }

    fn connections(&self) -> &Rc<Connections> {
        match self {
            Self::Own(connections) => connections,
            Self::OfStream(client, _) => client.open.connections(),
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Self::Own(connections) = self {
            connections.open.fetch_sub(1, Ordering::Relaxed);
            connections.changed.notify_one();
        }
    }
}
