//! The connections of one worker to one instance.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

pub(in crate::data_plane) use super::connection::{AppStream, Http2Connection};
use crate::data_plane::app_connection::ConnectionHandle;

/// The connections of one worker to one instance; usually one.
#[derive(Debug, Default)]
pub(in crate::data_plane) struct Http2Connections {
    all: RefCell<Vec<Http2Connection>>,
    /// Held while one is opened: the requests that wait for it are to use the same.
    opening: Mutex<()>,
}

// === impl Http2Connections ===

impl Http2Connections {
    /// Returns a stream on a connection that is open, if one has room.
    pub(in crate::data_plane) fn find_stream(
        &self,
        handle: impl FnOnce() -> Rc<ConnectionHandle>,
    ) -> Option<AppStream> {
        let all = self.all.borrow();
        let connection = all.iter().find(|connection| connection.has_room())?;
        Some(connection.open(handle()))
    }

    /// Returns a stream, on a connection by `connect` if no other one has room.
    ///
    /// # Errors
    /// Returns the error of `connect`.
    pub(in crate::data_plane) async fn stream<E>(
        &self,
        handle: Rc<ConnectionHandle>,
        connect: impl AsyncFnOnce() -> Result<Http2Connection, E>,
    ) -> Result<AppStream, E> {
        if let Some(stream) = self.find_stream(|| Rc::clone(&handle)) {
            return Ok(stream);
        }
        let _opening = self.opening.lock().await;
        if let Some(stream) = self.find_stream(|| Rc::clone(&handle)) {
            return Ok(stream);
        }
        let connection = connect().await?;
        let stream = connection.open(handle);
        self.all.borrow_mut().push(connection);
        Ok(stream)
    }

    /// Closes the connections that have been idle for so long. Those that take no further streams end
    /// by themselves.
    pub(in crate::data_plane) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.all.borrow_mut().retain(|connection| {
            let idle_since = connection.idle_since();
            let is_expired =
                idle_since.is_some_and(|since| now.duration_since(since) >= idle_timeout);
            !connection.is_leaving() && !is_expired
        });
    }

    /// Closes each connection when its last stream has ended.
    pub(in crate::data_plane) fn close(&self) {
        self.all.borrow_mut().clear();
    }

    pub(in crate::data_plane) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }
}
