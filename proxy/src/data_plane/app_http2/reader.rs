//! The receiving half of a stream, once its response has begun.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::Frame;

use super::connection::OpenStream;
use crate::data_plane::app_connection::{Connection, ConnectionHandle};
use crate::data_plane::app_reader::AppReader;
use crate::data_plane::exchange::UploadTask;

/// Maximum time for the end of a stream behind the last byte of its response.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The rest of a response.
#[derive(Debug)]
pub(in crate::data_plane) struct StreamReader {
    body: RecvStream,
    /// Ends with the response.
    _upload: Option<UploadTask>,
    /// Number of bytes to come, if the response states it.
    remaining: Option<u64>,
    end: BodyEnd,
    has_ended: bool,
    // Behind the others: with it ends what the connection counts.
    open: OpenStream,
}

/// A reset of the stream by the app.
#[derive(Debug, thiserror::Error)]
#[error("the application has reset the stream")]
pub(in crate::data_plane) struct AppReset {
    /// Its reason, if the client is to see the same one: that of others could mean that the app did
    /// nothing for the request, or that another protocol is needed.
    #[source]
    reason: Option<h2::Error>,
}

/// The end of a body as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data_plane) enum BodyEnd {
    /// The end of the stream, also behind the stated length: trailers may follow.
    OfStream,
    /// The last of the stated bytes.
    OfLength,
}

// === impl StreamReader ===

impl StreamReader {
    pub(super) fn new(
        body: RecvStream,
        length: Option<u64>,
        end: BodyEnd,
        upload: Option<UploadTask>,
        open: OpenStream,
    ) -> Self {
        // To a HEAD, the length is that of another body.
        let has_ended = body.is_end_stream();
        Self {
            body,
            _upload: upload,
            remaining: length.filter(|_| !has_ended),
            end,
            has_ended,
            open,
        }
    }

    fn receive(&mut self, data: Bytes) -> io::Result<Frame<Bytes>> {
        // Room for more: the client's side has taken this.
        let mut flow = self.body.flow_control().clone();
        flow.release_capacity(data.len())
            .map_err(io::Error::other)?;
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        Ok(Frame::data(data))
    }

    /// Returns the end of a body, unless bytes of it are missing.
    fn finish(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        self.has_ended = true;
        let is_short = self.remaining.is_some_and(|remaining| remaining > 0);
        is_short.then(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }
}

impl AppReader for StreamReader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.open.handle.cut_cause().is_some() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.open.handle.register_reader(cx);
        self.open.handle.await_body();
        let data = ready!(self.body.poll_data(cx));
        self.open.handle.receive_body();
        match data {
            Some(Ok(data)) => return Poll::Ready(Some(self.receive(data))),
            // It asks for no more of the request (RFC 9113, section 8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                return Poll::Ready(self.finish());
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(read_error(error)))),
            None => {}
        }
        let trailers = ready!(self.body.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => {
                self.has_ended = true;
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(None) => self.finish(),
            Err(error) => Some(Err(read_error(error))),
        })
    }

    fn is_done(&self) -> bool {
        self.has_ended
            || self.body.is_end_stream()
            || (self.end == BodyEnd::OfLength && self.remaining == Some(0))
    }

    fn remaining(&self) -> Option<u64> {
        if self.is_done() {
            Some(0)
        } else {
            self.remaining
        }
    }

    fn handle(&self) -> &Rc<ConnectionHandle> {
        &self.open.handle
    }

    /// Ends the request. There is no connection to return: others are on it.
    fn into_finished_connection(self) -> Option<Box<Connection>> {
        let is_complete = self.has_ended || self.body.is_end_stream();
        if !is_complete {
            // The end of the stream is on its way, and a reset would cross it.
            let Self { mut body, open, .. } = self;
            tokio::task::spawn_local(async move {
                let end = async { while body.data().await.is_some_and(|data| data.is_ok()) {} };
                let _ = tokio::time::timeout(END_TIMEOUT, end).await;
                drop(open);
            });
        }
        None
    }
}

fn read_error(error: h2::Error) -> io::Error {
    if error.is_reset() && error.is_remote() {
        let is_cancelled = error.reason() == Some(Reason::CANCEL);
        let reason = is_cancelled.then_some(error);
        io::Error::other(AppReset { reason })
    } else {
        io::Error::other(error)
    }
}
