//! From a client's connection to the active upstream and back.
//!
//! ```text
//! listener ─▶ worker ─▶ forward ──acquire()──▶ router
//!                          │
//!                          ├─ headers   what is the client's, what is this connection's
//!                          ├─ pool      a connection to that generation, used or new
//!                          ├─ body      holds the upstream until the last byte
//!                          └─ upgrade   so does a tunnel
//! ```
//! A worker is a thread with a runtime of its own, its own connections to the app and nothing
//! shared but the router: no lock on the way of a request, and no other thread to wake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::router::Router;

mod body;
mod error;
mod forward;
pub mod headers;
mod listener;
mod pool;
mod stream;
mod upgrade;
mod worker;

pub use headers::Forwarded;
pub use listener::Listener;

use listener::Accept;
use worker::Worker;

/// How requests are passed on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many threads serve connections.
    pub workers: usize,
    /// What is said of the client to the app.
    pub forwarded: Forwarded,
    /// For a connection to the app to be made.
    pub connect_timeout: Duration,
    /// For an idle connection to the app; less than the app itself allows.
    pub upstream_idle_timeout: Duration,
    /// For a request whose app refuses connections, though it has not been seen to end.
    pub hold_timeout: Duration,
}

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    workers: Vec<Worker>,
    accepting: Option<oneshot::Receiver<()>>,
    phase: watch::Sender<Phase>,
}

/// What the workers do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Accept and serve.
    Serving,
    /// The same, but every answer closes its connection.
    Closing,
    /// Accept what is in the backlog, and then no more.
    Closed,
    /// Close what is idle, serve what is left.
    Draining,
    /// Cut what is left.
    Cut,
}

// === impl DataPlane ===

impl DataPlane {
    /// Serves the connections of `listener`.
    ///
    /// # Errors
    /// When a worker cannot be started.
    pub fn start(
        listener: Listener,
        router: &Arc<Router>,
        settings: &Settings,
    ) -> io::Result<Self> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let workers: Vec<Worker> = (0..settings.workers.max(1))
            .map(|number| Worker::start(number, router, settings, phases.clone()))
            .collect::<io::Result<_>>()?;
        let dealing = workers.iter().map(Worker::intake).collect();
        let (accept, accepting) = Accept::new(listener, dealing, phase.subscribe());
        workers[0].accept(accept);
        Ok(Self {
            workers,
            accepting: Some(accepting),
            phase,
        })
    }

    /// From now on every answer says that its connection closes.
    pub fn announce_close(&self) {
        self.phase.send_replace(Phase::Closing);
    }

    /// Accepts what is in the backlog, closes the port, and waits for the last connection to end.
    ///
    /// Cancel safe.
    pub async fn drain(&mut self) {
        self.phase.send_replace(Phase::Closed);
        if let Some(accepting) = &mut self.accepting {
            // The sender never sends: that it is gone is the message.
            let _ = accepting.await;
            self.accepting = None;
        }
        self.phase.send_replace(Phase::Draining);
        for worker in &mut self.workers {
            worker.ended().await;
        }
    }

    /// Cuts the connections that are left, and ends the workers.
    pub async fn cut(mut self) {
        self.phase.send_replace(Phase::Cut);
        for worker in &mut self.workers {
            worker.ended().await;
        }
    }
}
