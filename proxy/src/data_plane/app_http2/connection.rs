//! One connection to the app, and the streams on it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::data_plane::app_connection::ConnectionHandle;
use crate::data_plane::exchange::ExchangeError;
use crate::data_plane::shared_pool::Place;

/// Maximum number of streams that are open at a time on one connection; for more, there is another
/// one. It is what most apps allow.
const MAX_STREAMS: usize = 100;
/// Number of bytes of a response that the app may send ahead of its client. That of the connection is
/// as large as possible: clients that are slow may not stop the others.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Maximum number of bytes of a request that wait for an app that takes it slowly.
const SEND_BUFFER: usize = 64 * 1024;
/// Maximum size of a response's head in bytes, the same as of HTTP/1.
const MAX_HEAD: u32 = 64 * 1024;

/// A connection to the app that carries many requests.
#[derive(Debug)]
pub(in crate::data_plane) struct Http2Connection {
    requests: SendRequest<Bytes>,
    state: Rc<ConnectionState>,
}

/// The state of a connection, as its streams see it.
#[derive(Debug)]
struct ConnectionState {
    open: Cell<usize>,
    /// It takes no further streams.
    is_leaving: Cell<bool>,
    has_answered: Cell<bool>,
    /// Asks whether the app has sent its settings, unless that is known.
    ping: Mutex<Option<PingPong>>,
    idle_since: Cell<Instant>,
}

/// A stream for one request. It is open until it is dropped.
#[derive(Debug)]
pub(in crate::data_plane) struct AppStream {
    pub(super) requests: SendRequest<Bytes>,
    pub(super) open: OpenStream,
}

/// The mark of an open stream.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) handle: Rc<ConnectionHandle>,
    connection: Rc<ConnectionState>,
}

// === impl Http2Connection ===

impl Http2Connection {
    /// Returns the connection on this socket; its place is taken until it ends.
    pub(in crate::data_plane) async fn begin(stream: TcpStream, place: Place) -> io::Result<Self> {
        let (requests, mut connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .initial_max_send_streams(MAX_STREAMS)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let state = Rc::new(ConnectionState {
            open: Cell::new(0),
            is_leaving: Cell::new(false),
            has_answered: Cell::new(false),
            ping: Mutex::new(connection.ping_pong()),
            idle_since: Cell::new(Instant::now()),
        });
        let of_task = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            // Its streams have the reason of its end.
            let _ = connection.await;
            of_task.is_leaving.set(true);
            drop(place);
        });
        Ok(Self { requests, state })
    }

    pub(super) fn has_room(&self) -> bool {
        let allowed = self.requests.current_max_send_streams().min(MAX_STREAMS);
        !self.state.is_leaving.get() && self.state.open.get() < allowed
    }

    /// Returns a new stream, which `handle` ends early.
    pub(super) fn open(&self, handle: Rc<ConnectionHandle>) -> AppStream {
        self.state.open.set(self.state.open.get() + 1);
        AppStream {
            requests: self.requests.clone(),
            open: OpenStream {
                handle,
                connection: Rc::clone(&self.state),
            },
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.state.is_leaving.get()
    }

    /// Returns the moment of its last stream's end, if none is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.state.open.get() == 0).then(|| self.state.idle_since.get())
    }
}

// === impl ConnectionState ===

impl ConnectionState {
    /// Waits for the app's settings, which are the first that it sends.
    async fn await_settings(self: &Rc<Self>) {
        if self.has_answered.get() {
            return;
        }
        let this = Rc::clone(self);
        // A task of its own, as others may wait for it when this request has been cancelled.
        let asked = tokio::task::spawn_local(async move {
            let mut ping = this.ping.lock().await;
            if let Some(mut ping) = ping.take() {
                // Without an answer the connection has ended.
                let _ = ping.ping(Ping::opaque()).await;
            }
        });
        let _ = asked.await;
    }
}

// === impl AppStream ===

impl AppStream {
    /// Returns `true` if its connection has answered another request before: its end may have nothing
    /// to do with this one.
    pub(super) fn is_reused(&self) -> bool {
        self.open.connection.has_answered.get()
    }

    /// Returns `true` if the app takes WebSockets on streams. It may not be asked for one before its
    /// settings have said so (RFC 8441, section 3).
    ///
    /// # Errors
    /// Returns an error if the stream was cut before that was known.
    pub(super) async fn allows_websockets(&self) -> Result<bool, ExchangeError> {
        let handle = &self.open.handle;
        handle.start_response_timer();
        tokio::select! {
            () = self.open.connection.await_settings() => {}
            () = handle.wait_until_cut() => {}
        }
        handle.stop_response_timer();
        match handle.cut_cause() {
            Some(cut) => Err(ExchangeError::Cut(cut)),
            None => Ok(self.requests.is_extended_connect_protocol_enabled()),
        }
    }
}

// === impl OpenStream ===

impl OpenStream {
    pub(super) fn mark_answered(&self) {
        self.connection.has_answered.set(true);
        self.handle.mark_answered();
    }

    /// Marks that the app takes no further streams on this connection.
    pub(super) fn mark_leaving(&self) {
        self.connection.is_leaving.set(true);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.open.set(connection.open.get() - 1);
        if connection.open.get() == 0 {
            connection.idle_since.set(Instant::now());
        }
    }
}
