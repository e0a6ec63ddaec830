//! Serving of accepted connections: one task per connection, driven by hyper.

use std::cell::RefCell;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::activity::{Activity, ClientState, TURN};
use super::bound::BoundSlot;
use super::connections::{Client, Connections, OpenConnection, Tracking};
use super::context::ForwardContext;
use super::forward::Forward;
use super::headers::{Peer, TrustedProxies};
use super::http2;
use super::linger::linger;
use super::parking::{may_park, wait_for_request};
use super::settings::DataPlaneSettings;
use super::stream::{ClientIo, Stream};

/// Maximum number of bytes that hyper reads ahead on one connection.
const READ_AHEAD: usize = 64 * 1024;

/// The response to what begins like HTTP/2 in the middle of a connection.
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The HTTP server of one worker.
#[derive(Debug)]
pub(super) struct Server {
    settings: DataPlaneSettings,
    context: Rc<ForwardContext>,
    connections: Rc<Connections>,
    last_peer: RefCell<Peer>,
}

/// A connection as hyper drives it.
type HyperConnection = http1::UpgradeableConnection<TokioIo<ClientIo>, Forward>;

/// The future of one connection. Closes it between two requests when the worker drains.
struct ConnectionTask {
    connection: HyperConnection,
    connections: Rc<Connections>,
    client: Rc<Client>,
    tracking: Option<Tracking>,
    is_shutting_down: bool,
}

/// The reason for which hyper drives a connection no longer.
enum Ended {
    Closed(hyper::Result<()>),
    /// It has been idle for a while.
    Idle,
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
    pub(super) fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let client = Rc::new(Client {
            peer: self.peer(peer.ip()),
            stream: Stream::from_accepted(stream),
            activity: Arc::new(Activity::new()),
            bound: BoundSlot::default(),
            open: OpenConnection::new(&self.connections),
        });
        let server = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let ended = server.serve_requests(&client).await;
            end(client, ended).await;
        });
    }

    /// Serves a connection until it has ended, or has become a tunnel. Of one that is idle, this future
    /// alone is left.
    async fn serve_requests(&self, client: &Rc<Client>) -> hyper::Result<()> {
        let mut received = Bytes::new();
        loop {
            // In a box, which goes back with hyper's buffers when the connection is idle.
            let mut task = Box::new(self.begin(client, mem::take(&mut received)));
            match (&mut *task).await {
                Ended::Idle => received = task.into_received(),
                // It begins as HTTP/2 does.
                Ended::Closed(Err(error)) if error.is_parse_version_h2() => {
                    received = task.into_received();
                    return Box::pin(self.serve_http2(Rc::clone(client), received)).await;
                }
                Ended::Closed(ended) => return ended,
            }
            if received.is_empty() {
                if !wait_for_request(client, &self.connections).await {
                    return Ok(());
                }
            } else {
                // The start of a head came with the request before it.
                client.activity.enter(ClientState::Head);
            }
        }
    }

    /// Serves a connection on which these bytes, the first ones of HTTP/2, have been received.
    async fn serve_http2(&self, client: Rc<Client>, received: Bytes) -> hyper::Result<()> {
        if client.activity.sent() > 0 {
            // After a request of HTTP/1, these bytes are the head of a malformed one.
            client.stream.send_best_effort(BAD_REQUEST);
            return Ok(());
        }
        if !self.settings.http2 {
            http2::refuse(&client);
            return Ok(());
        }
        let (context, connections) = (Rc::clone(&self.context), Rc::clone(&self.connections));
        http2::serve(client, context, connections, &self.settings, received).await
    }

    /// Returns the task of a connection on which these bytes have been received.
    fn begin(&self, client: &Rc<Client>, received: Bytes) -> ConnectionTask {
        ConnectionTask {
            connection: self.drive(client, received),
            connections: Rc::clone(&self.connections),
            client: Rc::clone(client),
            tracking: None,
            is_shutting_down: false,
        }
    }

    /// Lets hyper drive a connection, on which these bytes have been received.
    fn drive(&self, client: &Rc<Client>, received: Bytes) -> HyperConnection {
        let settings = &self.settings;
        let (stream, activity) = (client.stream.clone(), Arc::clone(&client.activity));
        let io = TokioIo::new(ClientIo::new(stream, activity, received));
        let forward = Forward::new(Rc::clone(&self.context), Rc::clone(client));
        http1::Builder::new()
            .max_buf_size(READ_AHEAD.max(settings.max_header_size))
            .max_header_size(settings.max_header_size)
            .max_headers(settings.max_headers)
            .half_close(true)
            .serve_connection(io, forward)
            .with_upgrades()
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

/// Ends a connection: that of a client that may still send is read a while longer.
async fn end(client: Rc<Client>, ended: hyper::Result<()>) {
    let activity = &client.activity;
    if let Err(error) = &ended {
        tracing::debug!(
            event = "client_connection_failed",
            %error, peer = %client.peer.address(), "a client's connection ended early"
        );
    }
    // hyper does not shut down a connection for which an upgrade was wanted.
    if ended.is_ok() && !activity.is_close_requested() && activity.client_may_send() {
        client.stream.begin_lingering(activity);
    }
    if activity.state() == ClientState::Lingering {
        Box::pin(linger(client)).await;
    }
}

// === impl ConnectionTask ===

impl Future for ConnectionTask {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        if this.tracking.is_none() {
            // A task's waker stays the same.
            this.tracking = Some(this.client.track(cx.waker()));
        }
        if this.client.activity.is_close_requested() {
            return Poll::Ready(Ended::Closed(Ok(())));
        }
        this.client.activity.begin_turn(TURN);
        let polled = Pin::new(&mut this.connection).poll(cx);
        // Checked after the poll: bytes that have arrived are read first, also on a connection that
        // was accepted last.
        if polled.is_pending() && !this.is_shutting_down {
            if this.connections.should_close(&this.client) {
                return this.shut_down(cx).map(Ended::Closed);
            }
            if this.client.activity.is_parking_requested() {
                this.client.activity.withdraw_parking();
                if may_park(&this.client) {
                    // Of an idle connection, that ends hyper's part alone.
                    return this.shut_down(cx).map(|ended| match ended {
                        Ok(()) => Ended::Idle,
                        failed => Ended::Closed(failed),
                    });
                }
            }
        }
        polled.map(Ended::Closed)
    }
}

impl ConnectionTask {
    /// Returns a copy of what hyper has read and not used: a part of its buffer would keep it all.
    fn into_received(self: Box<Self>) -> Bytes {
        let parts = self.connection.into_parts();
        parts.map_or_else(Bytes::new, |parts| Bytes::copy_from_slice(&parts.read_buf))
    }

    /// Ends hyper's part, after the present request if there is one.
    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.is_shutting_down = true;
        let mut connection = Pin::new(&mut self.connection);
        connection.as_mut().graceful_shutdown();
        connection.poll(cx)
    }
}
