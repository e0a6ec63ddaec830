//! One connection to the app, and the streams on it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::data_plane::app_connection::ConnectionHandle;
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
        let (requests, connection) = client::Builder::new()
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

// === impl AppStream ===

impl AppStream {
    /// Returns `true` if its connection has answered another request before: its end may have nothing
    /// to do with this one.
    pub(super) fn is_reused(&self) -> bool {
        self.open.connection.has_answered.get()
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
