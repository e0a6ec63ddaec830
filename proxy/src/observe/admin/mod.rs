//! What people and monitors may see, at a port of its own on a loopback address, read only.
//!
//! ```text
//! /          a page for people          /healthz   200 while the process lives
//! /events    what it shows, as it comes /readyz    200 while an instance gets the requests
//! /metrics   for Prometheus             /status    the sidecar's status file
//! ```
//! It runs on the control plane's runtime and never shares the public port: whatever is asked of it,
//! requests do not notice. Nothing here changes anything. A page of another site that is open in a
//! browser on this machine reaches this port too, so `guard` looks at who asks.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, sleep};

use self::answer::answer;
use self::launches::Launches;
use self::traffic::Traffic;
use crate::data_plane::{Listener, TrafficCounters};
use crate::deployment::status::Status;
use crate::os::inherit;
use crate::router::Router;
use crate::telemetry::Tail;

mod answer;
mod events;
mod guard;
mod launches;
mod metrics;
mod page;
mod readiness;
mod traffic;

/// More connections than this are closed at once: nobody here needs so many.
const CONNECTIONS: usize = 64;
/// For the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const BUFFER: usize = 16 * 1024;
/// How soon to ask again for a port that is taken: by the sidecar before this one, as a rule.
const BIND_AGAIN: Duration = Duration::from_secs(2);
/// How soon to accept again after the system has refused to.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where to listen, and what to show that nobody else keeps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A loopback address.
    pub address: SocketAddr,
    /// The last lines of the log.
    pub tail: Tail,
}

/// The port, or the wish to have it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    listener: Option<Listener>,
    tail: Tail,
}

/// Everything that can be seen.
#[derive(Debug)]
struct View {
    status: watch::Receiver<Status>,
    router: Arc<Router>,
    tallies: TrafficCounters,
    tail: Tail,
    launches: RefCell<Launches>,
    traffic: RefCell<Traffic>,
    /// How many follow the events.
    followers: Cell<usize>,
}

// === impl Admin ===

impl Admin {
    /// Binds the port. One that is taken is asked for again later: nobody's requests fail because
    /// nobody can look on.
    ///
    /// # Errors
    /// What the system said, if asking again is of no use.
    pub fn bind(settings: Settings) -> io::Result<Self> {
        let Settings { address, tail } = settings;
        let listener = match Listener::bind(address) {
            Ok(listener) => Some(listener),
            Err(error) if Listener::is_taken(&error) => {
                tracing::warn!(%address, "the admin port is taken: asked for again until it is free");
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

    /// Where it listens, or will.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows what there is to see, until the surrounding `LocalSet` ends.
    pub async fn serve(
        self,
        status: watch::Receiver<Status>,
        router: Arc<Router>,
        tallies: TrafficCounters,
    ) {
        let view = Rc::new(View {
            status,
            router,
            tallies,
            tail: self.tail,
            launches: RefCell::default(),
            traffic: RefCell::default(),
            followers: Cell::new(0),
        });
        tokio::task::spawn_local(look_on(Rc::clone(&view)));
        let address = self.address;
        let listener = match self.listener {
            Some(listener) => listener,
            None => bind_later(address).await,
        };
        match listener.into_tokio() {
            Ok(listener) => {
                tracing::info!(admin = %address, "the status page is at http://{address}/");
                accept_all(&listener, &view).await;
            }
            Err(error) => tracing::error!(%error, %address, "cannot listen for the status page"),
        }
    }
}

async fn bind_later(address: SocketAddr) -> Listener {
    loop {
        sleep(BIND_AGAIN).await;
        if let Ok(listener) = Listener::bind(address) {
            return listener;
        }
    }
}

/// Keeps what the status and the workers' numbers do not: what was before.
async fn look_on(view: Rc<View>) {
    let mut status = view.status.clone();
    let mut second = tokio::time::interval(traffic::EVERY);
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            changed = status.changed() => match changed {
                Ok(()) => view.launches.borrow_mut().look_at(&status.borrow_and_update()),
                Err(_) => return,
            },
            _ = second.tick() => {
                let held = view.router.held();
                view.traffic.borrow_mut().look_at(view.tallies.read(), held);
            }
        }
    }
}

async fn accept_all(listener: &TcpListener, view: &Rc<View>) {
    let open = Rc::new(());
    loop {
        // No app may inherit it, not even one that is started at this moment.
        let accepted = poll_fn(|cx| {
            inherit::alone(|| {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(inherit::keep_private(&stream).map(|()| stream))
            })
        });
        let Ok(stream) = accepted.await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        if Rc::strong_count(&open) <= CONNECTIONS {
            tokio::task::spawn_local(serve(stream, Rc::clone(view), Rc::clone(&open)));
        }
    }
}

async fn serve(stream: TcpStream, view: Rc<View>, _open: Rc<()>) {
    let service = service_fn(|request| {
        let answer = answer(&view, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}
