//! A worker's connections to the app, by generation.
//!
//! Every worker has its own: no lock, and a connection never wakes another thread. The pool holds
//! no `Arc<Upstream>`, as an idle connection is nothing in flight; it is told when a generation is
//! superseded, and lets go.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, header};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::activity::Clock;
use super::stream::Stream;
use crate::release::Generation;
use crate::router::{Class, Upstream};

/// How much is received at a time: enough for most answers.
const RECEIVE: usize = 8 * 1024;
/// The same for what turns out to be long: fewer system calls, at the price of so much memory for
/// each client that is slower than the app. (With 256 KiB, 1 MiB answers cost a sixth less CPU than
/// with 64; what is between has not been measured on a quiet machine.)
const RECEIVE_MORE: usize = 128 * 1024;

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    generations: RefCell<Vec<Members>>,
    limits: AppLimits,
    clock: Clock,
}

/// How long the app may do what.
#[derive(Clone, Copy, Debug)]
pub struct AppLimits {
    /// For a connection to be accepted.
    pub connect_timeout: Duration,
    /// From the end of a request to the head of its answer.
    pub response_timeout: Duration,
    /// For an idle connection; less than the app itself allows.
    pub idle_timeout: Duration,
}

/// A connection that serves one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Received, and not yet taken.
    pub(super) received: BytesMut,
    last_received: usize,
    /// Of the request under way: written anew for each, in the same memory.
    pub(super) out: Vec<u8>,
    pub(super) member: Rc<Member>,
    idle_since: Instant,
    idle_timeout: Duration,
    is_used: bool,
}

/// The connections of one generation.
#[derive(Debug)]
struct Members {
    generation: Generation,
    is_superseded: bool,
    /// The one used last is on top: what is in use least gets closed.
    #[expect(
        clippy::vec_box,
        reason = "one is handed on many times in a request, as a pointer"
    )]
    idle: Vec<Box<Connection>>,
    /// All of them, tunnels too.
    all: Vec<Weak<Member>>,
}

/// What the pool can do to a connection that is in use.
#[derive(Debug)]
pub(super) struct Member {
    generation: Generation,
    class: Cell<Class>,
    cut: Cell<Option<Cut>>,
    /// Whom to wake for that.
    reader: RefCell<Option<Waker>>,
    /// Since when the head of an answer is waited for.
    owes_since: Cell<Option<u32>>,
    /// It is not the app that has to go on, but the client, with its request's body.
    waits_for_client: Cell<bool>,
    is_closing: Cell<bool>,
    closing: Notify,
    clock: Clock,
}

/// Why a connection in use was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// What was in flight outlasted its drain.
    Evicted,
    /// The app owed an answer for too long.
    TimedOut,
    /// The client sent nothing more of its request for too long.
    Stalled,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(limits: AppLimits, clock: Clock) -> Self {
        Self {
            generations: RefCell::default(),
            limits,
            clock,
        }
    }

    /// An idle connection that is fit for use; for a request that cannot be sent again, on a closer
    /// look.
    pub(super) fn take(&self, upstream: &Upstream, is_replayable: bool) -> Option<Box<Connection>> {
        let mut generations = self.generations.borrow_mut();
        let members = find(&mut generations, upstream.generation)?;
        let now = Instant::now();
        while let Some(connection) = members.idle.pop() {
            let is_quiet = match is_replayable {
                true => connection.stream.is_quiet_so_far(),
                false => connection.stream.is_quiet(),
            };
            if is_quiet && !connection.is_expired(now) {
                return Some(connection);
            }
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the app does not accept one in time: nothing of the request has been sent.
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
            member: self.admit(upstream.generation),
            idle_since: Instant::now(),
            idle_timeout: self.limits.idle_timeout,
            is_used: false,
        }))
    }

    /// Takes a connection back whose request is complete.
    pub(super) fn put_back(&self, mut connection: Box<Connection>) {
        // Bytes after an answer belong to no request (RFC 9112, section 9.2).
        if !connection.received.is_empty() || connection.member.cut.get().is_some() {
            return;
        }
        let mut generations = self.generations.borrow_mut();
        if let Some(members) = find(&mut generations, connection.member.generation)
            && !members.is_superseded
        {
            connection.is_used = true;
            connection.last_received = 0;
            connection.idle_since = Instant::now();
            connection.member.class.set(Class::Request);
            members.idle.push(connection);
        }
    }

    /// One more connection of a generation.
    fn admit(&self, generation: Generation) -> Rc<Member> {
        let member = Rc::new(Member {
            generation,
            class: Cell::new(Class::Request),
            cut: Cell::new(None),
            reader: RefCell::default(),
            owes_since: Cell::new(None),
            waits_for_client: Cell::new(false),
            is_closing: Cell::new(false),
            closing: Notify::new(),
            clock: self.clock.clone(),
        });
        let mut generations = self.generations.borrow_mut();
        let members = match find(&mut generations, generation) {
            Some(members) => members,
            None => {
                generations.push(Members {
                    generation,
                    is_superseded: false,
                    idle: Vec::new(),
                    all: Vec::new(),
                });
                let last = generations.len() - 1;
                &mut generations[last]
            }
        };
        if members.all.len() == members.all.capacity() {
            // Before it grows: those that are gone need no place.
            members.all.retain(|member| member.strong_count() > 0);
        }
        members.all.push(Rc::downgrade(&member));
        member
    }

    /// Lets go of what a superseded generation has idle.
    pub(super) fn supersede(&self, generation: Generation) {
        let mut generations = self.generations.borrow_mut();
        if let Some(members) = find(&mut generations, generation) {
            members.is_superseded = true;
            members.idle.clear();
        }
    }

    /// Takes connections of a generation that is routed to again.
    pub(super) fn restore(&self, generation: Generation) {
        let mut generations = self.generations.borrow_mut();
        if let Some(members) = find(&mut generations, generation) {
            members.is_superseded = false;
        }
    }

    /// Has the tunnels of a generation end in the second half of `period`, one after the other: who
    /// finishes by himself in the first half is not disturbed, and not all come back at once.
    pub(super) fn close_tunnels(&self, generation: Generation, period: Duration) {
        let mut generations = self.generations.borrow_mut();
        let Some(members) = find(&mut generations, generation) else {
            return;
        };
        let alive = members.all.iter().filter_map(Weak::upgrade);
        let tunnels: Vec<_> = alive
            .filter(|member| member.class.get() == Class::Tunnel)
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

    /// Has all tunnels end, one after the other, and cuts those that have not after `period`.
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

    /// Cuts what is left of a class, and says how many that were.
    pub(super) fn evict(&self, generation: Generation, class: Class) -> u64 {
        let mut evicted = 0;
        let mut generations = self.generations.borrow_mut();
        if let Some(members) = find(&mut generations, generation) {
            for member in members.all.iter().filter_map(Weak::upgrade) {
                if member.class.get() == class && member.cut.get().is_none() {
                    member.cut(Cut::Evicted);
                    evicted += 1;
                }
            }
        }
        evicted
    }

    /// Closes what has been idle for too long or was closed by the app, cuts what owes an answer
    /// for too long, and forgets generations that are gone.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut generations = self.generations.borrow_mut();
        for members in generations.iter_mut() {
            for member in members.all.iter().filter_map(Weak::upgrade) {
                let outlasted = |since| self.clock.has_passed(since, self.limits.response_timeout);
                if member.owes_since.get().is_some_and(outlasted) {
                    member.cut(match member.waits_for_client.get() {
                        true => Cut::Stalled,
                        false => Cut::TimedOut,
                    });
                }
            }
            members
                .idle
                .retain(|idle| !idle.is_expired(now) && idle.stream.is_quiet_so_far());
            members.all.retain(|member| member.strong_count() > 0);
        }
        generations.retain(|members| !members.all.is_empty());
    }
}

fn find(generations: &mut [Members], generation: Generation) -> Option<&mut Members> {
    // Nearly always there is one, and the newest is last.
    generations
        .iter_mut()
        .rev()
        .find(|members| members.generation == generation)
}

// === impl Connection ===

impl Connection {
    /// Receives more; zero at the end of the stream. `expected` bytes are to come, if that is known.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        expected: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        if self.member.cut.get().is_some() {
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
            Poll::Pending => self.member.wake_for_cut(cx),
        }
        received
    }

    /// Whether it served a request before: then its end may have nothing to do with this one.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Learns how long the app keeps an idle connection: a second less than it says in
    /// `Keep-Alive: timeout=5`.
    pub(super) fn learn(&mut self, headers: &HeaderMap) {
        static KEEP_ALIVE: header::HeaderName = header::HeaderName::from_static("keep-alive");
        let value = headers.get(&KEEP_ALIVE).and_then(|v| v.to_str().ok());
        let timeout = value.and_then(|value| {
            let mut parameters = value.split(',').map(str::trim);
            let seconds = parameters.find_map(|word| word.strip_prefix("timeout="))?;
            seconds.parse::<u64>().ok()
        });
        if let Some(seconds) = timeout {
            self.idle_timeout = Duration::from_secs(seconds.saturating_sub(1));
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.idle_since) >= self.idle_timeout
    }
}

// === impl Member ===

impl Member {
    /// Counts as a tunnel from now on: its answer ends when one side wants it to.
    pub(super) fn is_tunnel(&self) {
        self.class.set(Class::Tunnel);
    }

    /// The app owes an answer from now on.
    pub(super) fn owes(&self) {
        self.owes_since.set(Some(self.clock.now()));
        self.waits_for_client.set(false);
    }

    /// The app has all that has come from the client so far.
    pub(super) fn waits_for_client(&self) {
        self.waits_for_client.set(true);
    }

    /// It has answered.
    pub(super) fn answered(&self) {
        self.owes_since.set(None);
    }

    /// Why it was cut, if it was.
    pub(super) fn why_cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// Completes when it is cut.
    pub(super) async fn until_cut(&self) {
        std::future::poll_fn(|cx| {
            self.wake_for_cut(cx);
            match self.cut.get() {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Whether this tunnel shall end.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Waits until it shall.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }

    fn cut(&self, why: Cut) {
        self.cut.set(Some(why));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_for_cut(&self, cx: &Context<'_>) {
        let mut reader = self.reader.borrow_mut();
        match &mut *reader {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *reader = Some(cx.waker().clone()),
        }
    }
}
