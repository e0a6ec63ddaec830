//! The connections of one worker to the app, by generation.
//!
//! Every worker has its own pool: it needs no lock, and a connection never wakes another thread.
//! The pool holds no `Arc<Upstream>`, as an idle connection is nothing in flight. The worker passes
//! on to it which generation is superseded, and its idle connections are closed.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::{Mark, Moment};
use super::headers;
use super::settings::AppLimits;
use super::stream::Stream;
use crate::release::Generation;
use crate::router::{Class, Upstream};

/// Number of bytes to receive at a time; enough for most responses.
const RECEIVE: usize = 8 * 1024;
/// Maximum number of bytes to receive at a time. Long responses then take fewer system calls, at
/// the price of this much memory for each client that is slower than the app. (With 256 KiB,
/// responses of 1 MiB cost a sixth less CPU time than with 64 KiB; values in between have not been
/// measured on a quiet machine.)
const RECEIVE_MORE: usize = 128 * 1024;

/// The pool of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    generations: RefCell<Vec<GenerationPool>>,
    limits: AppLimits,
}

/// A connection to the app. It serves one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Bytes that were received and not yet decoded.
    pub(super) received: BytesMut,
    last_received: usize,
    /// The request under way; its memory is reused for the next one.
    pub(super) out: Vec<u8>,
    pub(super) handle: Rc<ConnectionHandle>,
    idle_since: Instant,
    idle_timeout: Duration,
    /// It has served a request before: its end may have nothing to do with the present one.
    pub(super) is_reused: bool,
}

/// The connections of one generation.
#[derive(Debug)]
struct GenerationPool {
    generation: Generation,
    is_superseded: bool,
    /// Idle connections. The one used last is on top, so that the least used ones expire.
    #[expect(
        clippy::vec_box,
        reason = "one is handed on many times in a request, as a pointer"
    )]
    idle: Vec<Box<Connection>>,
    /// All connections, tunnels included.
    all: Vec<Weak<ConnectionHandle>>,
}

/// The pool's handle to a connection in use.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    generation: Generation,
    class: Cell<Class>,
    cut: Cell<Option<CutCause>>,
    /// Waker of the task that reads from the connection.
    reader: RefCell<Option<Waker>>,
    /// Start of the wait for the head of a response.
    waiting: Cell<Option<Mark>>,
    is_closing: Cell<bool>,
    closing: Notify,
}

/// The reason for which a connection in use was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutCause {
    /// The upstream was evicted: the request outlasted its drain.
    Evicted,
    /// The app did not respond in time.
    TimedOut,
    /// The client's request broke off, or stopped, beside the response.
    BrokenRequest,
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
    pub(super) fn new(limits: AppLimits) -> Self {
        Self {
            generations: RefCell::default(),
            limits,
        }
    }

    /// Returns an idle connection that is open and has nothing to read.
    pub(super) fn take(&self, upstream: &Upstream, check: IdleCheck) -> Option<Box<Connection>> {
        let mut generations = self.generations.borrow_mut();
        let pool = find(&mut generations, upstream.generation)?;
        let now = Instant::now();
        while let Some(connection) = pool.idle.pop() {
            let is_quiet = match check {
                IdleCheck::Reactor => connection.stream.is_quiet_per_reactor(),
                IdleCheck::Socket => connection.stream.is_quiet(),
            };
            if is_quiet && !connection.is_expired(now) {
                return Some(connection);
            }
        }
        None
    }

    /// Connects to the upstream.
    ///
    /// # Errors
    /// Returns the system's error, or [`io::ErrorKind::TimedOut`] after the connect timeout.
    /// Nothing of the request has been sent then.
    pub(super) async fn connect(&self, upstream: &Upstream) -> io::Result<Box<Connection>> {
        let connecting = TcpStream::connect(upstream.address);
        let stream = tokio::time::timeout(self.limits.connect_timeout, connecting)
            .await
            .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(Box::new(Connection {
            stream: Stream::new(stream),
            received: BytesMut::new(),
            last_received: 0,
            out: Vec::new(),
            handle: self.register(upstream.generation),
            idle_since: Instant::now(),
            idle_timeout: self.limits.idle_timeout,
            is_reused: false,
        }))
    }

    /// Takes back a connection whose request is complete.
    pub(super) fn put_back(&self, mut connection: Box<Connection>) {
        if !connection.is_reusable() {
            return;
        }
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, connection.handle.generation)
            && !pool.is_superseded
        {
            connection.renew();
            pool.idle.push(connection);
        }
    }

    /// Returns `true` if the generation gets no new requests.
    pub(super) fn is_superseded(&self, generation: Generation) -> bool {
        find(&mut self.generations.borrow_mut(), generation).is_none_or(|pool| pool.is_superseded)
    }

    /// Adds a connection to its generation.
    fn register(&self, generation: Generation) -> Rc<ConnectionHandle> {
        let handle = Rc::new(ConnectionHandle {
            generation,
            class: Cell::new(Class::Request),
            cut: Cell::new(None),
            reader: RefCell::default(),
            waiting: Cell::new(None),
            is_closing: Cell::new(false),
            closing: Notify::new(),
        });
        let mut generations = self.generations.borrow_mut();
        let pool = match find(&mut generations, generation) {
            Some(pool) => pool,
            None => {
                generations.push(GenerationPool {
                    generation,
                    is_superseded: false,
                    idle: Vec::new(),
                    all: Vec::new(),
                });
                let last = generations.len() - 1;
                &mut generations[last]
            }
        };
        if pool.all.len() == pool.all.capacity() {
            // Entries of closed connections are removed before the list grows.
            pool.all.retain(|handle| handle.strong_count() > 0);
        }
        pool.all.push(Rc::downgrade(&handle));
        handle
    }

    /// Marks a generation as superseded, and closes its idle connections.
    pub(super) fn supersede(&self, generation: Generation) {
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, generation) {
            pool.is_superseded = true;
            pool.idle.clear();
        }
    }

    /// Marks a generation as routed to again: idle connections are kept.
    pub(super) fn restore(&self, generation: Generation) {
        let mut generations = self.generations.borrow_mut();
        if let Some(pool) = find(&mut generations, generation) {
            pool.is_superseded = false;
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
            .filter(|handle| handle.class.get() == Class::Tunnel)
            .collect();
        let half = period / 2;
        let step = half / u32::try_from(tunnels.len()).unwrap_or(u32::MAX).max(1);
        for (delay, tunnel) in (0..).map(|n| half + step * n).zip(tunnels) {
            let tunnel = Rc::downgrade(&tunnel);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(delay).await;
                if let Some(tunnel) = tunnel.upgrade() {
                    tunnel.is_closing.set(true);
                    tunnel.closing.notify_waiters();
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
                if handle.class.get() == class && handle.cut.get().is_none() {
                    handle.cut(CutCause::Evicted);
                    evicted += 1;
                }
            }
        }
        evicted
    }

    /// Closes idle connections that have expired or that the app has closed, cuts connections whose
    /// response is overdue, and forgets generations without connections. Returns true if none is left.
    pub(super) fn sweep(&self, moment: Moment) -> bool {
        let now = Instant::now();
        let mut generations = self.generations.borrow_mut();
        for pool in generations.iter_mut() {
            for handle in pool.all.iter().filter_map(Weak::upgrade) {
                let Some(since) = handle.waiting.get() else {
                    continue;
                };
                handle.waiting.set(Some(since.dated(moment)));
                if since.age(moment) >= self.limits.response_timeout {
                    handle.cut(CutCause::TimedOut);
                }
            }
            pool.idle
                .retain(|idle| !idle.is_expired(now) && idle.stream.is_quiet_per_reactor());
            pool.all.retain(|handle| handle.strong_count() > 0);
        }
        generations.retain(|pool| !pool.all.is_empty());
        generations.is_empty()
    }
}

fn find(generations: &mut [GenerationPool], generation: Generation) -> Option<&mut GenerationPool> {
    // Usually there is only one, and the newest is last.
    generations
        .iter_mut()
        .rev()
        .find(|pool| pool.generation == generation)
}

// === impl Connection ===

impl Connection {
    /// Receives more bytes; zero at the end of the stream. `expected` is the number of bytes to
    /// come, if known.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        expected: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        if self.handle.cut.get().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let room = match expected {
            Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
            None => self.last_received.saturating_mul(2),
        };
        self.received.reserve(room.clamp(RECEIVE, RECEIVE_MORE));
        let received = self.stream.poll_receive(cx, &mut self.received);
        match received {
            Poll::Ready(Ok(length)) => self.last_received = length,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.handle.register_reader(cx),
        }
        received
    }

    /// Returns `true` if no byte follows its last response (RFC 9112, section 9.2).
    pub(super) fn is_reusable(&self) -> bool {
        self.received.is_empty() && self.handle.cut.get().is_none()
    }

    /// Prepares the connection for its next request.
    pub(super) fn renew(&mut self) {
        self.is_reused = true;
        self.last_received = 0;
        self.idle_since = Instant::now();
        self.handle.class.set(Class::Request);
    }

    /// Sets the idle timeout to one second less than the app announces in `Keep-Alive: timeout=5`.
    pub(super) fn learn_idle_timeout(&mut self, headers: &HeaderMap) {
        if let Some(timeout) = headers::keep_alive_timeout(headers) {
            self.idle_timeout = timeout.saturating_sub(Duration::from_secs(1));
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.idle_since) >= self.idle_timeout
    }
}

// === impl ConnectionHandle ===

impl ConnectionHandle {
    /// Marks the connection as a tunnel: it lasts until one side ends it.
    pub(super) fn mark_tunnel(&self) {
        self.class.set(Class::Tunnel);
    }

    /// Starts the response timer: the app has the request, or more of it.
    pub(super) fn start_response_timer(&self) {
        self.waiting.set(Some(Mark::NEW));
    }

    /// Stops the response timer: the response has begun, or the app has all that the client has sent
    /// so far.
    pub(super) fn stop_response_timer(&self) {
        self.waiting.set(None);
    }

    /// Returns the reason for which it was cut, if it was.
    pub(super) fn cut_cause(&self) -> Option<CutCause> {
        self.cut.get()
    }

    /// Waits until it is cut.
    pub(super) async fn wait_until_cut(&self) {
        std::future::poll_fn(|cx| {
            self.register_reader(cx);
            match self.cut.get() {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Returns `true` if this tunnel is to close.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Waits until the tunnel is to close.
    pub(super) async fn wait_until_closing(&self) {
        self.closing.notified().await;
    }

    pub(super) fn cut(&self, cause: CutCause) {
        self.cut.set(Some(cause));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn register_reader(&self, cx: &Context<'_>) {
        let mut reader = self.reader.borrow_mut();
        match &mut *reader {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *reader = Some(cx.waker().clone()),
        }
    }
}
