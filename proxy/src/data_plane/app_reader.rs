//! The rest of a response from the app, whatever protocol it comes in.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::app_connection::{Connection, ConnectionHandle};

/// The rest of a response from the app.
pub(super) trait AppReader: Sized {
    /// Returns the next part of the response's body.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>>;

    /// Returns `true` once the whole body has been returned.
    fn is_done(&self) -> bool;

    /// Returns the number of bytes to come, if known.
    fn remaining(&self) -> Option<u64>;

    /// Returns the handle by which the exchange is ended early.
    fn handle(&self) -> &Rc<ConnectionHandle>;

    /// Ends the exchange, and returns the connection if it is one of this exchange alone, and request
    /// and response are complete.
    fn into_finished_connection(self) -> Option<Box<Connection>>;
}
