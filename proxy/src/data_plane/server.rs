//! Serving of accepted connections: one task per connection, driven by hyper.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::activity::{Activity, ClientState, TURN};
use super::bound::BoundSlot;
use super::connections::{Client, Connections, OpenConnection, Tracking};
use super::context::ForwardContext;
use super::forward::Forward;
use super::headers::{Peer, TrustedProxies};
use super::linger::linger;
use super::settings::DataPlaneSettings;
use super::stream::{ClientIo, Stream};

/// Maximum number of bytes that hyper reads ahead on one connection.
const READ_AHEAD: usize = 64 * 1024;

/// The HTTP server of one worker.
#[derive(Debug)]
pub(super) struct Server {
    settings: DataPlaneSettings,
    context: Rc<ForwardContext>,
    connections: Rc<Connections>,
    last_peer: RefCell<Peer>,
}

/// The future of one connection. Closes it between two requests when the worker drains.
struct ConnectionTask {
    connection: http1::UpgradeableConnection<TokioIo<ClientIo>, Forward>,
    connections: Rc<Connections>,
    client: Rc<Client>,
    tracking: Option<Tracking>,
    is_shutting_down: bool,
}

// === impl Server ===

impl Server {
    /// Returns a server that adds its connections to `connections`.
    pub(super) fn new(
        settings: DataPlaneSettings,
        context: Rc<ForwardContext>,
        connections: Rc<Connections>,
    ) -> Self {
        Self {
            settings,
            context,
            connections,
            last_peer: RefCell::new(Peer::new(
                Ipv4Addr::LOCALHOST.into(),
                &TrustedProxies::default(),
            )),
        }
    }

    /// Serves a connection that has been counted already.
    pub(super) fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let settings = &self.settings;
        let open = OpenConnection::new(&self.connections);
        let stream = Stream::from_accepted(stream);
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(ClientIo::new(stream.clone(), Arc::clone(&activity)));
        let client = Rc::new(Client {
            peer: self.peer(peer.ip()),
            stream,
            activity,
            bound: BoundSlot::default(),
            open,
        });
        let forward = Forward::new(Rc::clone(&self.context), Rc::clone(&client));
        let connection = http1::Builder::new()
            .max_buf_size(READ_AHEAD.max(settings.max_header_size))
            .max_header_size(settings.max_header_size)
            .max_headers(settings.max_headers)
            .half_close(true)
            .serve_connection(io, forward)
            .with_upgrades();
        let task = ConnectionTask {
            connection,
            connections: Rc::clone(&self.connections),
            client: Rc::clone(&client),
            tracking: None,
            is_shutting_down: false,
        };
        tokio::task::spawn_local(async move {
            let ended = task.await;
            let Client {
                activity, stream, ..
            } = &*client;
            // hyper does not shut down a connection for which an upgrade was wanted.
            if ended.is_ok() && !activity.is_close_requested() && activity.client_may_send() {
                stream.begin_lingering(activity);
            }
            if let Err(error) = ended {
                tracing::debug!(
                    event = "client_connection_failed",
                    %error, %peer, "a client's connection ended early"
                );
            }
            if activity.state() == ClientState::Lingering {
                Box::pin(linger(client)).await;
            }
        });
    }

    /// Returns the peer at `address`. Its text is cached, as most connections come from the same
    /// address as the one before.
    fn peer(&self, address: IpAddr) -> Peer {
        let mut last = self.last_peer.borrow_mut();
        if last.address() != address {
            *last = Peer::new(address, &self.settings.trusted_proxies);
        }
        last.clone()
    }
}

// === impl ConnectionTask ===

impl Future for ConnectionTask {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        if this.tracking.is_none() {
            // A task's waker stays the same.
            this.tracking = Some(this.client.track(cx.waker()));
        }
        if this.client.activity.is_close_requested() {
            return Poll::Ready(Ok(()));
        }
        this.client.activity.begin_turn(TURN);
        let polled = Pin::new(&mut this.connection).poll(cx);
        // Checked after the poll: bytes that have arrived are read first, also on a connection that
        // was accepted last.
        if polled.is_ready()
            || this.is_shutting_down
            || !this.connections.should_close(&this.client)
        {
            return polled;
        }
        this.is_shutting_down = true;
        Pin::new(&mut this.connection).graceful_shutdown();
        Pin::new(&mut this.connection).poll(cx)
    }
}
