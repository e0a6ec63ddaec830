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

use tokio::sync::{oneshot, watch};

use crate::router::Router;

mod access;
mod activity;
mod body;
mod error;
mod exchange;
mod followed;
mod forward;
pub mod headers;
mod listener;
mod pool;
mod request_id;
mod shutdown_request;
mod socket;
mod stream;
mod tally;
mod upgrade;
mod user_token;
pub mod websocket;
pub mod wire;
mod worker;

pub use access::{AccessForm, AccessLog, AccessSink};
pub use activity::ClientLimits;
pub use forward::RequestLimits;
pub use headers::Forwarded;
pub use listener::Listener;
pub use pool::AppLimits;
pub use shutdown_request::ShutdownRequest;
pub use tally::{Answered, BUCKETS, Tallies, Totals};
pub use user_token::{UserToken, UserTokens};

use listener::{Accept, Deal};
use worker::{Intake, Worker};

/// How requests are passed on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many threads serve connections.
    pub workers: usize,
    /// What is said of the client to the app.
    pub forwarded: Forwarded,
    /// How long a client may do what.
    pub client: ClientLimits,
    /// How long the app may do what.
    pub app: AppLimits,
    /// What a request may need.
    pub request: RequestLimits,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Fields in it.
    pub max_headers: usize,
    /// Connections that are served at a time; more wait in the backlog.
    pub max_connections: usize,
    /// Whether a client that ends its half of the connection still waits for its answer.
    pub half_close: bool,
    /// How the platform asks this process to end, if it has said so.
    pub shutdown_request: Option<ShutdownRequest>,
    /// What to do with users' tokens; without it the fields that name them end here.
    pub user_tokens: Option<Arc<dyn UserTokens>>,
    /// What is counted, if somebody wants to know.
    pub tallies: Option<Tallies>,
    /// Where a line for each request goes, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Whether requests get an `X-Request-ID` that have none.
    pub request_id: bool,
}

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    workers: Vec<Worker>,
    accepting: Vec<oneshot::Receiver<()>>,
    phase: watch::Sender<Phase>,
}

/// What the workers do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Accept and serve.
    Serving,
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
        let dealing: Vec<Intake> = workers.iter().map(Worker::intake).collect();
        let mut accepting = Vec::new();
        for (number, listener) in listener.shared_by(workers.len())?.into_iter().enumerate() {
            let deal = Deal::new(dealing.clone(), number, settings.max_connections);
            let (accept, accepting_ended) = Accept::new(listener, deal, phase.subscribe());
            workers[number].accept(accept);
            accepting.push(accepting_ended);
        }
        Ok(Self {
            workers,
            accepting,
            phase,
        })
    }

    /// Accepts what is in the backlog, closes the port, and waits for the last connection to end.
    ///
    /// Cancel safe.
    pub async fn drain(&mut self) {
        self.phase.send_replace(Phase::Closed);
        while let Some(accepting) = self.accepting.last_mut() {
            // The sender never sends: that it is gone is the message.
            let _ = accepting.await;
            self.accepting.pop();
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
