//! The connections of one worker to the app, by generation.
//!
//! Every worker has its own pool: it needs no lock, and a connection never wakes another thread.
//! The pool holds no `Arc<Upstream>`, as an idle connection is nothing in flight. The worker passes
//! on to it which generation is superseded, and its idle connections are closed.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::app_connection;
pub(super) use super::app_connection::{Connection, ConnectionHandle, CutCause};
use super::app_http2::connections::{AppStream, Http2Connection, Http2Connections};
use super::clock::Moment;
use super::habits::{self, Habits};
use super::settings::AppLimits;
use super::shared_pool::{Place, SharedPool};
use super::stream::Stream;
use crate::os::listening;
use crate::release::Generation;
use crate::router::{AppProtocol, Class, Upstream, WorkerProgress};

/// Maximum time for which a connection may have been idle that is to carry a request that cannot be
/// sent again: many servers close after two seconds, and do not announce it.
const FRESH: Duration = Duration::from_secs(1);

/// The pool of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    generations: RefCell<Vec<GenerationPool>>,
    limits: AppLimits,
    shared: Arc<SharedPool>,
}

/// The connections of one generation.
#[derive(Debug)]
struct GenerationPool {
    generation: Generation,
    habits: Arc<Habits>,
    /// Set by the answers since the last sweep.
    answered: Rc<Cell<bool>>,
    progress: WorkerProgress,
    is_superseded: bool,
    /// Connections are kept after their requests.
    keeps_idle: bool,
    /// Idle connections. The one used last is on top, so that the least used ones expire.
    #[expect(
        clippy::vec_box,
        reason = "one is handed on many times in a request, as a pointer"
    )]
    idle: Vec<Box<Connection>>,
    /// Those of an app that speaks HTTP/2, in use or not.
    http2: Rc<Http2Connections>,
    /// All connections, tunnels included; with HTTP/2 all streams.
    all: Vec<Weak<ConnectionHandle>>,
}

/// A new connection to the app, or the place on one for a single request.
#[derive(Debug)]
pub(super) enum AppConnection {
    Http1(Box<Connection>),
    Http2(Box<AppStream>),
}

/// The check of an idle connection before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleCheck {
    /// A system call on the socket.
    Socket,
    /// A look at the reactor's events: enough for a request that can be sent again.
    Reactor,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(limits: AppLimits, shared: Arc<SharedPool>) -> Self {
        Self {
            generations: RefCell::default(),
            limits,
            shared,
        }
    }

    /// Returns the time after which the client of an event stream that is ended is to come back.
    pub(super) fn event_retry(&self) -> Option<Duration> {
        self.limits.event_retry
    }

    /// Returns an idle connection that is open and has nothing to read.
    ///
    /// For a request that can be sent again no clock is read: the sweep closes what has expired.
    pub(super) fn take(&self, upstream: &Upstream, check: IdleCheck) -> Option<Box<Connection>> {
        let mut generations = self.generations.borrow_mut();
        let pool = find(&mut generations, upstream.generation)?;
        match check {
            IdleCheck::Reactor => {
                while let Some(connection) = pool.idle.pop() {
                    if connection.stream.is_quiet_per_reactor() {
                        return Some(connection);
                    }
                }
            }
            IdleCheck::Socket => {
                let now = Instant::now();
                let is_fresh = |idle: &mut Box<Connection>| idle.idle_time(now) < FRESH;
                while let Some(connection) = pool.idle.pop_if(is_fresh) {
                    if connection.stream.is_quiet() && !connection.is_expired(now) {
                        return Some(connection);
                    }
                }
            }
        }
        None
    }

    /// Returns a stream for one request on a connection that is open, if the app speaks HTTP/2 and one has
    /// room.
    pub(super) fn find_stream(&self, upstream: &Upstream) -> Option<Box<AppStream>> {
        if upstream.protocol != AppProtocol::Http2 {
            return None;
        }
        let mut generations = self.generations.borrow_mut();
        let pool = find(&mut generations, upstream.generation)?;
        let http2 = Rc::clone(&pool.http2);
        let stream = http2.find_stream(|| {
            let handle = pool.new_handle(None);
            pool.register(&handle);
            handle
        });
        stream.map(Box::new)
    }

    /// Connects to the upstream.
    ///
    /// # Errors
    /// Returns the system's error, or [`io::ErrorKind::TimedOut`] after the connect timeout.
    /// Nothing of the request has been sent then.
    pub(super) async fn connect(&self, upstream: &Upstream) -> io::Result<AppConnection> {
        match upstream.protocol {
            AppProtocol::Http1 => self.connect_http1(upstream).await.map(AppConnection::Http1),
            AppProtocol::Http2 => self.open_stream(upstream).await.map(AppConnection::Http2),
        }
    }

    /// Connects to an upstream that speaks HTTP/1.
    ///
    /// # Errors
    /// The same as of [`Pool::connect`].
    pub(super) async fn connect_http1(&self, upstream: &Upstream) -> io::Result<Box<Connection>> {
        let place = self.take_place()?;
        let stream = self.within_timeout(connect_to(upstream)).await?;
        let mut generations = self.generations.borrow_mut();
        let pool = self.find_or_add(&mut generations, upstream);
        let handle = pool.new_handle(Some(place));
        pool.register(&handle);
        pool.learn_from(&handle);
        Ok(Box::new(Connection::new(
            Stream::new(stream),
            handle,
            self.limits.idle_timeout,
            !pool.keeps_idle,
        )))
    }

    /// Returns a stream for one request, on a connection that may carry others.
    async fn open_stream(&self, upstream: &Upstream) -> io::Result<Box<AppStream>> {
        let (handle, http2) = {
            let mut generations = self.generations.borrow_mut();
            let pool = self.find_or_add(&mut generations, upstream);
            let handle = pool.new_handle(None);
            pool.register(&handle);
            (handle, Rc::clone(&pool.http2))
        };
        let connect = async || {
            let place = self.take_place()?;
            Http2Connection::begin(connect_to(upstream).await?, place).await
        };
        // Also of the wait for another request that connects.
        let stream = self.within_timeout(http2.stream(handle, connect)).await?;
        Ok(Box::new(stream))
    }

    async fn within_timeout<T>(
        &self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let connected = tokio::time::timeout(self.limits.connect_timeout, connecting).await;
        connected.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Takes back a connection whose request is complete.
    pub(super) fn put_back(&self, mut connection: Box<Connection>) {
        if !connection.is_reusable() {
            return;
        }
        if connection.is_single_use {
            if !connection.stream.is_read_closed() {
                tokio::task::spawn_local(connection.close_behind_app());
            }
            return;
        }
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, connection.handle.generation())
            && pool.keeps_idle
            && connection.may_idle()
        {
            connection.renew();
            pool.idle.push(connection);
        }
    }

    /// Returns `true` if the generation gets no new requests.
    pub(super) fn is_superseded(&self, generation: Generation) -> bool {
        find(&mut self.generations.borrow_mut(), generation).is_none_or(|pool| pool.is_superseded)
    }

    /// Takes a place for a new connection, if need be that of an idle one: those of this worker do
    /// not suit the request.
    fn take_place(&self) -> io::Result<Place> {
        let place = self.shared.take_place().or_else(|| {
            self.clear_idle();
            self.shared.take_place()
        });
        place.ok_or_else(|| io::Error::other("no more connections to it can be opened for now"))
    }

    fn clear_idle(&self) {
        let now = Instant::now();
        for pool in &mut *self.generations.borrow_mut() {
            pool.idle.clear();
            pool.http2.sweep(now, Duration::ZERO);
        }
    }

    /// Returns the connections of a generation, of which there may have been none.
    fn find_or_add<'a>(
        &self,
        generations: &'a mut Vec<GenerationPool>,
        upstream: &Upstream,
    ) -> &'a mut GenerationPool {
        let generation = upstream.generation;
        let place = position(generations, generation).unwrap_or_else(|| {
            let habits = self.shared.habits_of(generation);
            generations.push(GenerationPool {
                generation,
                is_superseded: false,
                keeps_idle: self.may_keep(&habits),
                habits,
                answered: Rc::default(),
                progress: upstream.progress().add_worker(),
                idle: Vec::new(),
                http2: Rc::default(),
                all: Vec::new(),
            });
            generations.len() - 1
        });
        &mut generations[place]
    }

    fn may_keep(&self, habits: &Habits) -> bool {
        !self.limits.idle_timeout.is_zero() && !habits.is_single()
    }

    /// Closes idle connections, as a request of any worker may wait for that, and keeps none if the app
    /// serves one connection at a time.
    pub(super) fn release_idle(&self) {
        for pool in &mut *self.generations.borrow_mut() {
            pool.habits.count_released(pool.idle.len());
            pool.idle.clear();
            pool.keeps_idle &= !pool.habits.is_single();
        }
    }

    /// Marks a generation as superseded, and closes its idle connections.
    pub(super) fn supersede(&self, generation: Generation) {
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, generation) {
            pool.is_superseded = true;
            pool.keeps_idle = false;
            pool.idle.clear();
            pool.http2.close();
        }
    }

    /// Marks a generation as routed to again: idle connections are kept.
    pub(super) fn restore(&self, generation: Generation) {
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, generation) {
            pool.is_superseded = false;
            pool.keeps_idle = self.may_keep(&pool.habits);
        }
    }

    /// Closes the tunnels of a generation in the second half of `period`, one after the other. A
    /// client that ends its tunnel itself in the first half is not disturbed, and the clients do
    /// not all return at once.
    pub(super) fn close_tunnels(&self, generation: Generation, period: Duration) {
        let mut generations = self.generations.borrow_mut();
        let Some(pool) = find(&mut generations, generation) else {
            return;
        };
        let alive = pool.all.iter().filter_map(Weak::upgrade);
        let tunnels: Vec<_> = alive
            .filter(|handle| handle.class() == Class::Tunnel)
            .collect();
        let half = period / 2;
        let step = half / u32::try_from(tunnels.len()).unwrap_or(u32::MAX).max(1);
        for (delay, tunnel) in (0..).map(|n| half + step * n).zip(tunnels) {
            let tunnel = Rc::downgrade(&tunnel);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(delay).await;
                if let Some(tunnel) = tunnel.upgrade() {
                    tunnel.close_tunnel();
                }
            });
        }
    }

    /// Closes all tunnels one after the other, and cuts those that are left after `period`.
    pub(super) fn end_tunnels(self: &Rc<Self>, period: Duration) {
        let generations = self.generations.borrow();
        let all: Vec<Generation> = generations.iter().map(|of| of.generation).collect();
        drop(generations);
        for generation in &all {
            self.close_tunnels(*generation, period);
        }
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(period).await;
            for generation in all {
                pool.evict(generation, Class::Tunnel);
            }
        });
    }

    /// Cuts the connections of a class, and returns their number.
    pub(super) fn evict(&self, generation: Generation, class: Class) -> u64 {
        let mut evicted = 0;
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, generation) {
            for handle in pool.all.iter().filter_map(Weak::upgrade) {
                if handle.class() == class && handle.cut_cause().is_none() {
                    handle.cut(CutCause::Evicted);
                    evicted += 1;
                }
            }
        }
        evicted
    }

    /// Closes idle connections that have expired or that the app has closed, cuts connections whose
    /// response is overdue, records the progress of the app, and forgets generations without
    /// connections. Returns true if none is left.
    pub(super) fn sweep(&self, moment: Moment) -> bool {
        if self.shared.is_full() {
            // A worker that needs one cannot close those of the others.
            self.clear_idle();
        }
        let now = Instant::now();
        let mut generations = self.generations.borrow_mut();
        for pool in generations.iter_mut() {
            let mut oldest = None;
            let mut stalled = 0;
            for handle in pool.all.iter().filter_map(Weak::upgrade) {
                let wait = handle.response_wait(moment);
                oldest = oldest.max(wait);
                if wait >= Some(self.limits.response_timeout) {
                    handle.cut(CutCause::TimedOut);
                }
                let limit = self.limits.response_idle_timeout;
                stalled +=
                    u32::from(limit.is_some_and(|limit| handle.cut_if_stalled(limit, moment)));
            }
            app_connection::report_stalled(pool.generation, stalled);
            pool.progress.record(oldest, pool.answered.take());
            pool.idle
                .retain(|idle| !idle.is_expired(now) && idle.stream.is_quiet_per_reactor());
            pool.http2.sweep(now, self.limits.idle_timeout);
            pool.all.retain(|handle| handle.strong_count() > 0);
        }
        generations.retain(|pool| !pool.all.is_empty() || !pool.http2.is_empty());
        generations.is_empty()
    }
}

// === impl GenerationPool ===

impl GenerationPool {
    /// Returns the handle of a new connection, or of a stream.
    fn new_handle(&self, place: Option<Place>) -> Rc<ConnectionHandle> {
        let (answered, habits) = (Rc::clone(&self.answered), Arc::clone(&self.habits));
        let handle = ConnectionHandle::new(self.generation, answered, habits, place);
        Rc::new(handle)
    }

    /// Adds a new connection, or a stream.
    fn register(&mut self, handle: &Rc<ConnectionHandle>) {
        if self.all.len() == self.all.capacity() {
            // Entries of closed connections are removed before the list grows.
            self.all.retain(|handle| handle.strong_count() > 0);
        }
        self.all.push(Rc::downgrade(handle));
    }

    /// Learns from the first request of a new connection if that can show something.
    fn learn_from(&self, handle: &Rc<ConnectionHandle>) {
        if self.habits.should_watch() {
            let handle = Rc::downgrade(handle);
            let first = move || handle.upgrade()?.first_request();
            tokio::task::spawn_local(habits::watch(Arc::clone(&self.habits), first));
        }
    }
}

async fn connect_to(upstream: &Upstream) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(upstream.address).await?;
    // The app may have closed its listener, and another user's program may have taken the port.
    if upstream
        .user
        .is_some_and(|user| listening::is_anothers(upstream.address, user))
    {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn find(generations: &mut [GenerationPool], generation: Generation) -> Option<&mut GenerationPool> {
    let place = position(generations, generation)?;
    generations.get_mut(place)
}

fn position(generations: &[GenerationPool], generation: Generation) -> Option<usize> {
    // Usually there is only one, and the newest is last.
    generations
        .iter()
        .rposition(|pool| pool.generation == generation)
}
