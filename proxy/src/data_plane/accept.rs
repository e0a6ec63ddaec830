//! Accepting of connections, and their distribution among the workers.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::listener::{Listener, WorkerListener};
use super::phase::Phase;
use super::server::Server;
use crate::os::inherit;

/// Pause after an error that says that descriptors or memory are exhausted.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Minimum time between two log lines about such errors.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum time between two log lines about the maximum number of connections.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of the checks for a free place while the maximum number of connections is open.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The task that accepts connections on one worker.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: Listener,
    balancer: Balancer,
    phases: watch::Receiver<Phase>,
    // Dropped when the backlog is empty and no more connections are accepted.
    _accepting: oneshot::Sender<()>,
}

/// Chooses the worker that serves an accepted connection.
///
/// By default the worker that accepted it: no other thread is woken, and the socket is registered
/// once. Another worker gets it if this one has clearly more connections: kept connections differ
/// in how long they last, and the worker that is awake accepts most.
#[derive(Debug)]
pub(super) struct Balancer {
    workers: Vec<WorkerHandle>,
    here: usize,
    max_connections: usize,
    /// Time of the last log line about that maximum.
    logged: Cell<Option<Instant>>,
}

/// A handle that gives a worker connections to serve.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    jobs: mpsc::UnboundedSender<WorkerJob>,
    connections: Arc<AtomicUsize>,
}

/// A job for a worker.
#[derive(Debug)]
pub(super) enum WorkerJob {
    /// A connection to serve; it has been counted.
    Serve(TcpStream, SocketAddr),
    /// A listener to accept connections on.
    Accept(Acceptor),
    /// A request to close those connections that have been idle for longest.
    MakeRoom,
}

/// Pauses after errors of `accept`, none of which ends the acceptor.
#[derive(Default)]
struct AcceptBackoff {
    logged: Option<Instant>,
}

// === impl Acceptor ===

impl Acceptor {
    /// Returns an acceptor, and a receiver that completes when it has stopped accepting.
    pub(super) fn new(
        listener: Listener,
        balancer: Balancer,
        phases: watch::Receiver<Phase>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (accepting, stopped) = oneshot::channel();
        let acceptor = Self {
            listener,
            balancer,
            phases,
            _accepting: accepting,
        };
        (acceptor, stopped)
    }

    /// Accepts connections until [`Phase::Closed`], and then those in the backlog.
    pub(super) async fn run(mut self, server: Rc<Server>) {
        let listener = match WorkerListener::new(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                return tracing::error!(
                    event = "accept_failed",
                    %error, "a worker cannot accept connections"
                );
            }
        };
        let mut backoff = AcceptBackoff::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.phases.wait_for(|phase| *phase >= Phase::Closed) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    backoff.pause_after(&error).await;
                    continue;
                }
            };
            if self.balancer.is_full() {
                // When the port is closed, all that wait are served.
                tokio::select! {
                    () = self.balancer.make_room() => {}
                    _ = self.phases.wait_for(|phase| *phase >= Phase::Closed) => {}
                }
            }
            self.balancer.serve(stream, peer, &server);
        }
        // Not through the reactor, which may not have reported the last connections yet.
        let Ok(listener) = listener.into_std() else {
            return;
        };
        loop {
            let accepted = inherit::with_spawn_lock(|| {
                let (stream, peer) = listener.accept()?;
                inherit::keep_private(&stream).map(|()| (stream, peer))
            });
            match accepted {
                Ok((stream, peer)) if stream.set_nonblocking(true).is_ok() => {
                    self.balancer.serve(stream, peer, &server);
                }
                Ok(_) => {}
                // Only this client has left; others wait behind it.
                Err(error) if is_connection_error(&error) => {}
                Err(_) => return,
            }
        }
    }
}

// === impl Balancer ===

impl Balancer {
    /// Returns a balancer for the worker with index `here`.
    pub(super) fn new(workers: Vec<WorkerHandle>, here: usize, max_connections: usize) -> Self {
        Self {
            workers,
            here,
            max_connections,
            logged: Cell::default(),
        }
    }

    fn is_full(&self) -> bool {
        let connections: usize = self.workers.iter().map(WorkerHandle::connections).sum();
        connections >= self.max_connections
    }

    /// Asks one worker after the other to close idle connections, until there is room.
    async fn make_room(&self) {
        let is_due = |at: Instant| at.elapsed() >= FULL_LOG_INTERVAL;
        if self.logged.get().is_none_or(is_due) {
            self.logged.set(Some(Instant::now()));
            tracing::warn!(
                event = "connections_full",
                connections = self.max_connections,
                "as many clients are connected as may be (--max-connections): idle connections are \
                 closed for new ones, and when all are in use, new ones wait"
            );
        }
        for worker in self.workers.iter().cycle().skip(self.here) {
            if !self.is_full() {
                return;
            }
            // A worker that has ended has no connections.
            let _ = worker.jobs.send(WorkerJob::MakeRoom);
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, server: &Rc<Server>) {
        let here = &self.workers[self.here];
        let least = self
            .workers
            .iter()
            .min_by_key(|worker| worker.connections());
        let least = least.unwrap_or(here);
        if here.connections() <= least.connections() + least.connections() / 2 + 1 {
            here.count_connection();
            return server.serve(stream, peer);
        }
        least.serve(stream, peer);
    }
}

// === impl WorkerHandle ===

impl WorkerHandle {
    /// Returns a handle, and the receiver of its jobs; `connections` counts those of the worker.
    pub(super) fn new(connections: Arc<AtomicUsize>) -> (Self, mpsc::UnboundedReceiver<WorkerJob>) {
        let (jobs, receiver) = mpsc::unbounded_channel();
        (Self { jobs, connections }, receiver)
    }

    /// Starts an acceptor on the worker.
    pub(super) fn start_accepting(&self, acceptor: Acceptor) {
        // A worker that has ended has logged the reason.
        let _ = self.jobs.send(WorkerJob::Accept(acceptor));
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection before it is served, so that the next choice already sees it.
    fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        self.count_connection();
        // If the worker has ended, the connection is closed.
        let _ = self.jobs.send(WorkerJob::Serve(stream, peer));
    }
}

// === impl AcceptBackoff ===

impl AcceptBackoff {
    /// Pauses if `error` concerns more than one connection, and logs it at most once per
    /// [`LOG_INTERVAL`].
    async fn pause_after(&mut self, error: &io::Error) {
        if is_connection_error(error) {
            return;
        }
        let is_due = self.logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL);
        if is_due {
            self.logged = Some(Instant::now());
            tracing::error!(event = "accept_paused", %error, "cannot accept connections for now");
        }
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Returns `true` if an error of `accept` concerns one connection only.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
