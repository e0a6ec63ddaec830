//! The data plane: carries requests from a client's connection to the active upstream, and
//! responses back.
//!
//! ```text
//! accept ─▶ server ─▶ forward ──acquire()──▶ router
//!                        │
//!                        ├─ headers        the fields of one connection, and those for the other end
//!                        ├─ pool           idle and new connections to a generation
//!                        ├─ bound          the connection to it that belongs to one client
//!                        ├─ exchange       one request and its response on such a connection
//!                        ├─ response_body  holds the upstream until the last byte
//!                        └─ upgrade        holds it until a tunnel ends
//! ```
//! A worker is a thread with its own runtime and its own connections to the app. It shares nothing
//! but the router: a request takes no lock and wakes no other thread.

use std::io;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::os::descriptors;
use crate::router::Router;

mod accept;
mod access;
mod acquire;
mod activity;
mod app_body;
mod app_connection;
mod app_http2;
mod app_reader;
mod app_response;
pub mod base64;
mod bound;
mod burst;
mod client_streams;
mod clock;
mod connection_limits;
mod connections;
mod context;
mod counters;
mod error;
mod error_log;
mod error_pages;
mod error_response;
mod event_body;
mod exchange;
mod exchange_error;
mod file_body;
mod forward;
mod grpc_body;
mod habits;
pub mod headers;
mod http2;
mod http2_websocket;
mod linger;
mod listener;
mod local_response;
mod old_assets;
mod own_paths;
mod pace;
mod paced_body;
mod parking;
mod phase;
mod pool;
mod request_body;
mod request_id;
mod request_log;
mod response_body;
mod server;
mod service;
mod session_cookie;
mod settings;
mod shared_pool;
mod shutdown_request;
mod socket;
mod stream;
mod tester_field;
mod upgrade;
mod user_token;
pub mod websocket;
mod websocket_key;
pub mod wire;
mod worker;

pub use access::{AccessForm, AccessLog, AccessSink};
pub use counters::{BUCKETS, ResponseTotals, TrafficCounters, TrafficTotals};
pub use error_pages::{ErrorPages, PageKind};
pub use headers::{Forwarded, TrustedProxies};
pub(crate) use listener::Listener;
pub use session_cookie::SessionCookie;
pub use settings::{AppLimits, ClientLimits, DataPlaneSettings, OldAssets, RequestLimits};
pub use shutdown_request::ShutdownRequest;
pub use tester_field::TesterField;
pub use user_token::{UserToken, UserTokens};

use accept::{Acceptor, Balancer, WorkerHandle};
use connection_limits::ConnectionLimits;
use phase::Phase;
use shared_pool::SharedPool;
use worker::Worker;

/// The running data plane.
#[derive(Debug)]
pub(crate) struct DataPlane {
    workers: Vec<Worker>,
    accepting: Vec<oneshot::Receiver<()>>,
    phase: watch::Sender<Phase>,
}

// === impl DataPlane ===

impl DataPlane {
    /// Starts the workers, which serve the connections of `listener`.
    pub(crate) fn start(
        listener: Listener,
        router: &Arc<Router>,
        settings: &DataPlaneSettings,
    ) -> io::Result<Self> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let limits = ConnectionLimits::new(settings, descriptors::limit());
        let shared = Arc::new(SharedPool::new(limits.app));
        let workers: Vec<Worker> = (0..settings.workers.max(1))
            .map(|number| Worker::start(number, router, settings, &shared, phases.clone()))
            .collect::<io::Result<_>>()?;
        let handles: Vec<WorkerHandle> = workers.iter().map(Worker::handle).cloned().collect();
        let mut accepting = Vec::new();
        for (number, listener) in listener.share_among(workers.len())?.into_iter().enumerate() {
            let balancer = Balancer::new(handles.clone(), number, limits.clients);
            let (acceptor, stopped) = Acceptor::new(listener, balancer, phase.subscribe());
            handles[number].start_accepting(acceptor);
            accepting.push(stopped);
        }
        Ok(Self {
            workers,
            accepting,
            phase,
        })
    }

    /// Accepts the backlog, closes the port, and waits until the last connection has ended.
    ///
    /// Cancel safe.
    pub(crate) async fn drain(&mut self) {
        self.close().await;
        self.end_in(Phase::Draining).await;
    }

    /// Accepts the backlog and no more, as another process does, and waits until the last connection
    /// has ended.
    ///
    /// Cancel safe.
    pub(crate) async fn leave(&mut self) {
        self.close().await;
        self.end_in(Phase::Leaving).await;
    }

    async fn close(&mut self) {
        self.phase.send_replace(Phase::Closed);
        while let Some(accepting) = self.accepting.last_mut() {
            // Nothing is sent: an acceptor drops its sender when it stops.
            let _ = accepting.await;
            self.accepting.pop();
        }
    }

    async fn end_in(&mut self, phase: Phase) {
        self.phase.send_replace(phase);
        for worker in &mut self.workers {
            worker.join().await;
        }
    }

    /// Cuts the remaining connections, and waits until the workers have ended.
    pub(crate) async fn cut(mut self) {
        self.phase.send_replace(Phase::Cut);
        for worker in &mut self.workers {
            worker.join().await;
        }
    }
}
