//! A worker's connections to the app, by generation.
//!
//! Every worker has its own: no lock, and a connection never wakes another thread. The pool holds
//! no `Arc<Upstream>`, as an idle connection is nothing in flight; it is told when a generation is
//! superseded, and lets go.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::activity::Clock;
use super::body::RequestBody;
use super::stream::{ReadsToTheEnd, Stream};
use crate::release::Generation;
use crate::router::{Class, Upstream};

/// How far hyper reads ahead for one connection.
const BUFFER: usize = 64 * 1024;

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
    sender: http1::SendRequest<RequestBody>,
    stream: Stream,
    member: Rc<Member>,
    idle_since: Instant,
    idle_timeout: Duration,
    clock: Clock,
    is_used: bool,
}

/// The connections of one generation.
#[derive(Debug)]
struct Members {
    generation: Generation,
    is_superseded: bool,
    /// The one used last is on top: what is in use least gets closed.
    idle: Vec<Connection>,
    /// All of them, tunnels too.
    all: Vec<Weak<Member>>,
}

/// What there is to know of a connection while hyper or a tunnel has it.
#[derive(Debug)]
pub(super) struct Member {
    generation: Generation,
    class: Cell<Class>,
    task: AbortHandle,
    /// Since when the app owes the head of an answer.
    waits_since: Cell<Option<u32>>,
    has_timed_out: Cell<bool>,
    is_closing: Cell<bool>,
    closing: Notify,
}

/// How a request body says that it still comes: until it is sent no answer is owed.
#[derive(Debug)]
pub(super) struct Progress {
    member: Rc<Member>,
    clock: Clock,
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
    pub(super) fn take(&self, upstream: &Upstream, is_replayable: bool) -> Option<Connection> {
        let mut generations = self.generations.borrow_mut();
        let members = find(&mut generations, upstream.generation)?;
        let mut busy = Vec::new();
        let now = Instant::now();
        let taken = loop {
            let Some(connection) = members.idle.pop() else {
                break None;
            };
            if !connection.sender.is_ready() {
                // Closed, or still sending a body that was answered early.
                if !connection.sender.is_closed() {
                    busy.push(connection);
                }
                continue;
            }
            let is_quiet = match is_replayable {
                true => connection.stream.is_quiet_so_far(),
                false => connection.stream.is_quiet(),
            };
            if is_quiet && !connection.is_expired(now) {
                break Some(connection);
            }
        };
        members.idle.append(&mut busy);
        taken
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the app does not accept one in time: nothing of the request has been sent.
    pub(super) async fn connect(&self, upstream: &Upstream) -> io::Result<Connection> {
        let connecting = TcpStream::connect(upstream.address);
        let stream = tokio::time::timeout(self.limits.connect_timeout, connecting)
            .await
            .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let stream = Stream::new(stream);
        let io = TokioIo::new(ReadsToTheEnd::new(stream.clone()));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(io)
            .await
            .map_err(io::Error::other)?;
        let task = tokio::task::spawn_local(async move {
            // How it ended, the request in it is told.
            let _ = connection.with_upgrades().await;
        });
        let member = self.admit(upstream.generation, Class::Request, task.abort_handle());
        Ok(Connection {
            sender,
            stream,
            member,
            idle_since: Instant::now(),
            idle_timeout: self.limits.idle_timeout,
            clock: self.clock.clone(),
            is_used: false,
        })
    }

    /// Takes a connection back whose request is complete.
    pub(super) fn put_back(&self, mut connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut generations = self.generations.borrow_mut();
        if let Some(members) = find(&mut generations, connection.member.generation)
            && !members.is_superseded
        {
            connection.is_used = true;
            connection.idle_since = Instant::now();
            members.idle.push(connection);
        }
    }

    /// Makes a task cuttable as one of a generation's connections.
    pub(super) fn admit(
        &self,
        generation: Generation,
        class: Class,
        task: AbortHandle,
    ) -> Rc<Member> {
        let member = Rc::new(Member {
            generation,
            class: Cell::new(class),
            task,
            waits_since: Cell::new(None),
            has_timed_out: Cell::new(false),
            is_closing: Cell::new(false),
            closing: Notify::new(),
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

    /// Has the tunnels of a generation end in the second half of `period`, one after the other: who
    /// finishes by himself in the first half is not disturbed, and not all come back at once.
    pub(super) fn close_tunnels(&self, generation: Generation, period: Duration) {
        let mut generations = self.generations.borrow_mut();
        let Some(members) = find(&mut generations, generation) else {
            return;
        };
        let alive = members.all.iter().filter_map(Weak::upgrade);
        let tunnels: Vec<_> = alive.filter(|m| m.class.get() == Class::Tunnel).collect();
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

    /// Cuts what is left of a class.
    pub(super) fn evict(&self, generation: Generation, class: Class) {
        let mut generations = self.generations.borrow_mut();
        if let Some(members) = find(&mut generations, generation) {
            for member in members.all.iter().filter_map(Weak::upgrade) {
                if member.class.get() == class {
                    member.task.abort();
                }
            }
        }
    }

    /// Closes what has been idle for too long, cuts what owes an answer for too long, and forgets
    /// generations that are gone.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut generations = self.generations.borrow_mut();
        for members in generations.iter_mut() {
            for member in members.all.iter().filter_map(Weak::upgrade) {
                let outlasted = |since| self.clock.has_passed(since, self.limits.response_timeout);
                if member.waits_since.get().is_some_and(outlasted) {
                    member.has_timed_out.set(true);
                    member.task.abort();
                }
            }
            members
                .idle
                .retain(|idle| !idle.is_expired(now) && !idle.sender.is_closed());
            members.all.retain(|member| member.strong_count() > 0);
        }
        generations.retain(|members| !members.is_superseded || !members.all.is_empty());
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
    /// Sends a request. On an error the request comes back if nothing of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut request = request;
        let progress = Progress {
            member: Rc::clone(&self.member),
            clock: self.clock.clone(),
        };
        progress.made();
        request.body_mut().reports(progress);
        let response = self.sender.try_send_request(request).await;
        self.member.waits_since.set(None);
        let response = response?;
        if let Some(timeout) = keep_alive_timeout(&response) {
            self.idle_timeout = timeout;
        }
        Ok(response)
    }

    /// Whether it served a request before: then its end may have nothing to do with this one.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether it was cut because the app owed an answer for too long.
    pub(super) fn has_timed_out(&self) -> bool {
        self.member.has_timed_out.get()
    }

    /// Counts as a tunnel from now on: its answer ends when one side wants it to.
    pub(super) fn is_tunnel(&self) {
        self.member.class.set(Class::Tunnel);
    }

    fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.idle_since) >= self.idle_timeout
    }
}

// === impl Member ===

impl Member {
    /// Whether this tunnel shall end.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Waits until it shall.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }
}

// === impl Progress ===

impl Progress {
    /// The time for an answer begins anew.
    pub(super) fn made(&self) {
        self.member.waits_since.set(Some(self.clock.now()));
    }
}

/// A second less than the app says it keeps an idle connection: `Keep-Alive: timeout=5`.
fn keep_alive_timeout(response: &Response<Incoming>) -> Option<Duration> {
    static KEEP_ALIVE: header::HeaderName = header::HeaderName::from_static("keep-alive");
    let value = response.headers().get(&KEEP_ALIVE)?.to_str().ok()?;
    let seconds: u64 = value
        .split(',')
        .find_map(|parameter| parameter.trim().strip_prefix("timeout="))?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}
