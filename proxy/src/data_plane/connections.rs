//! The client connections of one worker.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use slab::Slab;
use tokio::sync::Notify;

use super::activity::{Activity, ClientState, IdleAction};
use super::bound::BoundSlot;
use super::headers::Peer;
use super::phase::Phase;
use super::settings::DataPlaneSettings;
use super::stream::Stream;
use crate::release::Generation;

/// Response to a head that did not arrive in time. Without a length the client would wait for the
/// close.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Number of sweeps for which a connection has to be idle before it makes room for another one: a
/// client that goes on using its connection keeps it.
const MIN_IDLE_SWEEPS: u32 = 2;
/// Share of the idle connections that are closed at a time, and its maximum: to look for them takes
/// time.
const ROOM_SHARE: usize = 8;
const MAX_ROOM: usize = 32;

/// The client connections of one worker, tunnels included.
#[derive(Debug)]
pub(super) struct Connections {
    /// The connections that hyper serves; tunnels are not among them.
    tracked: RefCell<Slab<TrackedConnection>>,
    phase: Cell<Phase>,
    open: Arc<AtomicUsize>,
    /// True while nothing has to be swept.
    is_at_rest: Cell<bool>,
    changed: Notify,
    /// The last sweep after which no connection was idle for long enough.
    all_busy: Cell<Option<u32>>,
}

/// An entry of the registry: what the sweep examines, and the task that it wakes.
#[derive(Debug)]
struct TrackedConnection {
    client: Rc<Client>,
    waker: Waker,
}

/// One open connection, counted from its accept until it or its tunnel ends.
#[derive(Debug)]
pub(super) struct OpenConnection(Rc<Connections>);

/// A client's connection; lives until the connection, or a tunnel made of it, has ended.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) stream: Stream,
    pub(super) activity: Arc<Activity>,
    /// The connection to the app that is this client's alone, if it has one.
    pub(super) bound: BoundSlot,
    pub(super) _open: OpenConnection,
}

// === impl Client ===

impl Client {
    /// Marks the connection as idle: the response is complete.
    pub(super) fn begin_idle(&self) {
        self.activity.enter(ClientState::Idle);
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
            all_busy: Cell::new(None),
        }
    }

    /// Adds a connection that hyper serves in the task of `waker`, and returns its key.
    pub(super) fn track(&self, client: &Rc<Client>, waker: &Waker) -> usize {
        self.tracked.borrow_mut().insert(TrackedConnection {
            client: Rc::clone(client),
            waker: waker.clone(),
        })
    }

    /// Removes the connection with this key.
    pub(super) fn untrack(&self, key: usize) {
        // The entry is dropped after the borrow has ended.
        let _tracked = self.tracked.borrow_mut().remove(key);
    }

    /// Closes idle connections, and every other one after its current request.
    pub(super) fn drain(&self) {
        self.phase.set(Phase::Draining);
        for (_, tracked) in &*self.tracked.borrow() {
            tracked.waker.wake_by_ref();
        }
    }

    /// Ends connections that have outlasted a time limit, and those whose clients have left.
    ///
    /// hyper would look for the end of the stream twice in every request, and still detect a client's
    /// departure only after reading all that came before: not behind an unread body, and not behind
    /// the next request. hyper is therefore configured to accept half-closed connections, and the
    /// sweep checks them.
    pub(super) fn sweep(&self, settings: &DataPlaneSettings) {
        for (_, TrackedConnection { client, waker }) in &*self.tracked.borrow() {
            client.bound.sweep();
            match client
                .activity
                .idle_action(&settings.client, self.phase.get())
            {
                IdleAction::SendTimeout => client.stream.send_best_effort(REQUEST_TIMEOUT),
                IdleAction::Close => {}
                IdleAction::Keep => {
                    let has_left = !settings.half_close
                        && client.activity.state() == ClientState::Request
                        && client.stream.is_read_closed();
                    if !has_left {
                        // A first response that takes this long is watched by the reactor from now on.
                        let _ = client.stream.register();
                        continue;
                    }
                }
            }
            if client.activity.is_write_blocked() {
                // The rest of a response is lost with the connection.
                client.reset_on_close();
            }
            client.activity.request_close();
            waker.wake_by_ref();
        }
    }

    /// Closes those connections that have been idle for longest, for others that wait: first those
    /// that have sent nothing at all. `sweep` is the number of the last sweep.
    pub(super) fn make_room(&self, sweep: u32) {
        if self.all_busy.get() == Some(sweep) {
            return;
        }
        let tracked = self.tracked.borrow();
        let mut idle: Vec<(bool, Reverse<u32>, usize)> = tracked
            .iter()
            .filter_map(|(key, TrackedConnection { client, .. })| {
                let sweeps = client.activity.idle_sweeps()?;
                let has_served = client.activity.state() == ClientState::Idle;
                (sweeps >= MIN_IDLE_SWEEPS).then_some((has_served, Reverse(sweeps), key))
            })
            .collect();
        if idle.is_empty() {
            return self.all_busy.set(Some(sweep));
        }
        idle.sort_unstable();
        let room = (idle.len() / ROOM_SHARE).clamp(1, MAX_ROOM);
        for (.., key) in &idle[..room] {
            let TrackedConnection { client, waker } = &tracked[*key];
            // A request that has just arrived is served.
            if client.stream.is_quiet_per_reactor() {
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

    /// Returns the number of open connections, tunnels included.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns `true` once the worker drains and its last connection has ended.
    pub(super) fn is_drained(&self) -> bool {
        self.phase.get() >= Phase::Draining && self.open() == 0
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

// === impl OpenConnection ===

impl OpenConnection {
    /// Takes over a connection that has been counted already.
    pub(super) fn new(connections: &Rc<Connections>) -> Self {
        if connections.is_at_rest.replace(false) {
            connections.changed.notify_one();
        }
        Self(Rc::clone(connections))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}
