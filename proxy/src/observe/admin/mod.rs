//! The admin port (`--admin`): status page, metrics and health of the sidecar, read only, on a
//! loopback address.
//!
//! ```text
//! /          the status page            /healthz   200 while the process runs
//! /events    its content, as it changes /readyz    200 while an instance gets the requests
//! /metrics   for Prometheus             /status    the sidecar's status file
//! ```
//! It runs in the runtime of the control plane, on a port of its own: it does not affect the requests
//! to the app, and changes nothing. Pages of other sites that are open in a browser on this machine
//! reach this port too: `guard` refuses their requests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, sleep};

use self::response::respond;
use self::view::View;
use crate::data_plane::{Listener, TrafficCounters};
use crate::deployment::status::Status;
use crate::os::inherit;
use crate::router::Router;
use crate::telemetry::Tail;

mod events;
mod guard;
mod launches;
mod metrics;
mod metrics_format;
mod page;
mod readiness;
mod response;
mod traffic;
mod view;

/// Maximum number of connections. One more ends the oldest: nobody who only holds connections keeps
/// others out, and the page connects again by itself.
const MAX_CONNECTIONS: usize = 64;
/// Maximum time for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const BUFFER: usize = 16 * 1024;
/// Time after which to retry a port that is in use, usually by the sidecar before this one.
const BIND_RETRY: Duration = Duration::from_secs(2);
/// Time after which to accept again after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Settings of the admin port.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Address, which is a loopback one.
    pub address: SocketAddr,
    /// Last lines of the log.
    pub tail: Tail,
}

/// The admin port, which may not be bound yet.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    listener: Option<Listener>,
    tail: Tail,
}

// === impl Admin ===

impl Admin {
    /// Binds the port, unless a process before has `kept` it open. If it is in use, [`Admin::serve`]
    /// retries: the app is served all the same.
    ///
    /// # Errors
    /// The port cannot be bound for another reason, now or later.
    pub fn bind(settings: AdminSettings, kept: Option<&TcpListener>) -> io::Result<Self> {
        let AdminSettings { address, tail } = settings;
        let is_right = |kept: &&TcpListener| {
            let kept = kept.local_addr();
            let port = address.port();
            kept.is_ok_and(|kept| kept.ip() == address.ip() && [kept.port(), 0].contains(&port))
        };
        let opened = match kept.filter(is_right) {
            Some(kept) => kept.try_clone().and_then(Listener::from_inherited),
            None => Listener::bind(address),
        };
        let listener = match opened {
            Ok(listener) => Some(listener),
            Err(error) if Listener::is_taken(&error) => {
                tracing::warn!(
                    event = "admin_port_in_use",
                    %address,
                    "the admin port is in use: it is retried until it is free"
                );
                None
            }
            Err(error) => return Err(error),
        };
        let bound = listener.as_ref().map(Listener::local_address).transpose()?;
        Ok(Self {
            address: bound.unwrap_or(address),
            listener,
            tail,
        })
    }

    /// Returns the port, if it is bound.
    pub fn socket(&self) -> Option<&TcpListener> {
        self.listener.as_ref().map(Listener::socket)
    }

    /// Returns the address on which it listens, or will.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the admin port until the surrounding `LocalSet` ends.
    pub async fn serve(
        self,
        status: watch::Receiver<Status>,
        router: Arc<Router>,
        counters: TrafficCounters,
    ) {
        let view = Rc::new(View::new(status, router, counters, self.tail));
        tokio::task::spawn_local(record_history(Rc::clone(&view)));
        let address = self.address;
        let listener = match self.listener {
            Some(listener) => listener,
            None => bind_later(address).await,
        };
        match listener.into_tokio() {
            Ok(listener) => {
                tracing::info!(
                    event = "admin_port_open",
                    admin = %address,
                    "the status page is at http://{address}/"
                );
                accept_all(&listener, &view).await;
            }
            Err(error) => tracing::error!(
                event = "admin_port_failed",
                %error,
                %address,
                "cannot listen on the admin port"
            ),
        }
    }
}

async fn bind_later(address: SocketAddr) -> Listener {
    loop {
        sleep(BIND_RETRY).await;
        if let Ok(listener) = Listener::bind(address) {
            return listener;
        }
    }
}

/// Records the history of launches and traffic, of which the status and the workers hold only the
/// present.
async fn record_history(view: Rc<View>) {
    let mut status = view.status.clone();
    let mut second = tokio::time::interval(traffic::INTERVAL);
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            changed = status.changed() => match changed {
                Ok(()) => view.launches.borrow_mut().record(&status.borrow_and_update()),
                Err(_) => return,
            },
            _ = second.tick() => {
                let held = view.router.held();
                view.traffic.borrow_mut().record(view.counters.read(), held);
            }
        }
    }
}

async fn accept_all(listener: &tokio::net::TcpListener, view: &Rc<View>) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        // No app may inherit the connection, not even one that is being started.
        let accepted = poll_fn(|cx| {
            inherit::with_spawn_lock(|| {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(inherit::keep_private(&stream).map(|()| stream))
            })
        });
        let Ok(stream) = accepted.await else {
            sleep(ACCEPT_RETRY).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::task::spawn_local(serve(stream, Rc::clone(view))));
    }
}

async fn serve(stream: TcpStream, view: Rc<View>) {
    let service = service_fn(|request| {
        let response = respond(&view, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(
            event = "admin_connection_ended",
            %error,
            "a connection to the admin port ended early"
        );
    }
}
