//! One request and its response on one connection to the app.
//!
//! Sending and receiving go on side by side: an app may respond before it has read the whole body,
//! and its response counts even when it then resets the connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Uri, request};
use http_body::{Body as _, Frame};
use tokio::task::JoinHandle;

use super::activity::TURN;
use super::app_reader::AppReader;
pub(super) use super::exchange_error::ExchangeError;
use super::headers::{AddedFields, HeaderFlags, strip_trailers};
use super::pool::{Connection, ConnectionHandle, CutCause};
use super::request_body::{BodyError, RequestBody};
use super::stream::Stream;
use super::wire::{self, Decoded, Decoder, Framing, Head};

/// Maximum size of a part of a body that is copied and sent together with what precedes it, in
/// bytes.
const SEND_TOGETHER: usize = 16 * 1024;

/// A request to the app.
#[derive(Debug)]
pub(super) struct OutgoingRequest {
    pub(super) head: request::Parts,
    pub(super) added: AddedFields,
    /// Its head as it was sent, kept until a response begins: the request can be sent again.
    written: Vec<u8>,
    pub(super) body: RequestBody,
    framing: Framing,
    /// A byte of a response has arrived, be it of an interim one.
    has_arrived: bool,
}

/// The rest of a response.
#[derive(Debug)]
pub(super) struct ResponseReader {
    connection: Box<Connection>,
    decoder: Decoder,
    upload: Option<UploadTask>,
    keeps_alive: bool,
}

/// The task that sends the rest of a body while the response arrives.
#[derive(Debug)]
pub(super) struct UploadTask {
    is_done: Rc<Cell<bool>>,
    task: JoinHandle<()>,
}

/// The sending half of an exchange.
struct Upload {
    /// The head; behind it the framing of a chunked body, and small parts of any body.
    out: Vec<u8>,
    /// Length of the head, which stays there.
    head: usize,
    sent: usize,
    /// A part too large to be copied; it is sent after `out`.
    chunk: Bytes,
    body: RequestBody,
    framing: Framing,
    /// A response has begun: the response timer is not started again.
    has_response: bool,
    state: UploadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadState {
    /// More of the body is to come.
    Body,
    /// The rest of the buffers is to be sent.
    Flushing,
    /// All is sent.
    Done,
    /// The app takes no more. Its response may have arrived before, so this alone is no failure.
    Refused,
}

// === impl OutgoingRequest ===

impl OutgoingRequest {
    pub(super) fn new(head: request::Parts, added: AddedFields, body: RequestBody) -> Self {
        Self {
            framing: match body.size_hint().exact() {
                Some(_) => Framing::AsDeclared,
                None => Framing::Chunked,
            },
            head,
            added,
            written: Vec::new(),
            body,
            has_arrived: false,
        }
    }

    /// Returns the same request once more, which has not been sent; `None` if it cannot be sent
    /// twice.
    pub(super) fn copy(&self) -> Option<Self> {
        self.is_replayable().then(|| {
            let (head, added) = (self.head.clone(), self.added.clone());
            Self::new(head, added, RequestBody::Empty)
        })
    }

    /// Returns `true` if the request can be sent twice, and that has the same effect as sending it
    /// once (RFC 9110, section 9.2.2).
    pub(super) fn is_replayable(&self) -> bool {
        self.head.method.is_idempotent() && matches!(self.body, RequestBody::Empty)
    }

    /// Returns the fields of the head, which has not been sent.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Returns the fields of the head, which has not been sent, to change them.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Returns the fields of the head, which may have been sent; none once a response has begun.
    pub(super) fn sent_headers(&self) -> HeaderMap {
        if self.written.is_empty() {
            self.head.headers.clone()
        } else {
            wire::read_fields(&self.written)
        }
    }

    /// Asks the app to end the connection after this request.
    pub(super) fn ask_to_close(&mut self) {
        let close = HeaderValue::from_static("close");
        self.head.headers.append(header::CONNECTION, close);
    }

    /// Sends the request, and receives the head of the response.
    ///
    /// # Errors
    /// Returns an [`ExchangeError`] if there is none.
    pub(super) async fn exchange(
        &mut self,
        mut connection: Box<Connection>,
    ) -> Result<(Head, ResponseReader), ExchangeError> {
        let mut upload = Upload {
            out: std::mem::take(&mut connection.out),
            head: 0,
            sent: 0,
            chunk: Bytes::new(),
            body: std::mem::replace(&mut self.body, RequestBody::Empty),
            framing: self.framing,
            has_response: false,
            state: UploadState::Body,
        };
        self.write_head(&mut upload.out);
        upload.head = upload.out.len();
        connection.handle.start_response_timer();
        let head = poll_fn(|cx| self.poll_exchange(cx, &mut connection, &mut upload)).await;
        connection.handle.stop_response_timer();
        let head = match head {
            Ok(head) => head,
            Err(failure) => {
                self.written = upload.out;
                return Err(failure);
            }
        };
        connection.handle.mark_answered();
        let decoder = Decoder::of(&head, &self.head.method)?;
        if head.flags.has_any(HeaderFlags::KEEP_ALIVE) {
            connection.learn_idle_timeout(&head.headers);
        }
        let keeps_alive = head.keeps_alive();
        let upload = if upload.state == UploadState::Done {
            connection.out = upload.out;
            None
        } else {
            Some(upload.detach(&connection, keeps_alive))
        };
        let reader = ResponseReader {
            connection,
            decoder,
            upload,
            keeps_alive,
        };
        Ok((head, reader))
    }

    /// Writes the head, or reuses the one written for another connection.
    fn write_head(&mut self, out: &mut Vec<u8>) {
        if !self.written.is_empty() {
            *out = std::mem::take(&mut self.written);
            return;
        }
        out.clear();
        let headers = &self.head.headers;
        let added = self.added.fields(headers);
        let added = added.as_ref().map_or(&[][..], |added| added);
        let request::Parts { method, uri, .. } = &self.head;
        wire::write_head(out, method, uri, headers, added, self.framing);
        // hyper reads into the client's memory again once it is released. It also hands the map of
        // a response to the next request, so that one map goes round.
        self.head.uri = Uri::default();
        self.head.headers.clear();
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        upload: &mut Upload,
    ) -> Poll<Result<Head, ExchangeError>> {
        if let Poll::Ready(Err(error)) = upload.poll(cx, &connection.stream, &connection.handle) {
            return Poll::Ready(Err(ExchangeError::ClientBody(error)));
        }
        let mut received_now = 0;
        loop {
            if !connection.received.is_empty() {
                // The request has reached the app and must not be sent again.
                self.has_arrived = true;
            }
            let map = &mut self.head.headers;
            while let Some(head) = wire::read_head(&mut connection.received, map)? {
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
                // Interim responses are dropped: hyper's server would take one for the final
                // response, and for an error.
                *map = head.headers;
                map.clear();
            }
            if received_now > TURN as usize {
                // An app that sends interim responses without end does not stop the worker.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let received = ready!(connection.poll_receive(cx, None));
            let error = match received {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(length) => {
                    received_now += length;
                    continue;
                }
                Err(error) => error,
            };
            return Poll::Ready(Err(match connection.handle.cut_cause() {
                Some(cut) => ExchangeError::Cut(cut),
                None if self.has_arrived => ExchangeError::PartialHead(error),
                None => ExchangeError::NoResponse(error),
            }));
        }
    }
}

// === impl ResponseReader ===

impl ResponseReader {
    /// Returns the connection for another protocol, and the task that still sends the request's
    /// body, which comes first.
    pub(super) fn into_tunnel(self) -> (Connection, Option<UploadTask>) {
        (*self.connection, self.upload)
    }
}

impl AppReader for ResponseReader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match self.decoder.decode(&mut self.connection.received) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(mut trailers)) => {
                    strip_trailers(&mut trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(malformed) => return Poll::Ready(Some(Err(io::Error::other(malformed)))),
            }
            match ready!(self.connection.poll_body(cx, self.decoder.remaining())) {
                Ok(0) if self.decoder == Decoder::UntilClose => {
                    self.decoder = Decoder::Length(0);
                    self.keeps_alive = false;
                }
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    fn handle(&self) -> &Rc<ConnectionHandle> {
        &self.connection.handle
    }

    fn into_finished_connection(mut self) -> Option<Box<Connection>> {
        let is_sent = match &self.upload {
            Some(upload) => upload.is_done.get(),
            None => true,
        };
        if !self.keeps_alive {
            self.connection.is_single_use = true;
        }
        (is_sent && self.is_done()).then_some(self.connection)
    }
}

// === impl UploadTask ===

impl UploadTask {
    /// Returns the handle of a task that sets `is_done` if it has sent all.
    pub(super) fn new(is_done: Rc<Cell<bool>>, task: JoinHandle<()>) -> Self {
        Self { is_done, task }
    }

    /// Waits for its end, and returns `true` if all has been sent.
    pub(super) async fn finish(mut self) -> bool {
        (&mut self.task).await.is_ok() && self.is_done.get()
    }
}

impl Drop for UploadTask {
    fn drop(&mut self) {
        // A complete response ends its request.
        self.task.abort();
    }
}

// === impl Upload ===

impl Upload {
    /// Sends as much as possible. Ready when all is sent, or no more will be taken; an error is the
    /// client's.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        handle: &ConnectionHandle,
    ) -> Poll<Result<(), BodyError>> {
        loop {
            match self.state {
                UploadState::Done | UploadState::Refused => return Poll::Ready(Ok(())),
                // A small part goes out together with the head.
                UploadState::Body
                    if self.out.len() - self.sent < SEND_TOGETHER && self.chunk.is_empty() =>
                {
                    match Pin::new(&mut self.body).poll_frame(cx) {
                        Poll::Ready(Some(frame)) => {
                            self.add(frame?);
                            if !self.has_response {
                                handle.start_response_timer();
                            }
                            continue;
                        }
                        Poll::Ready(None) => {
                            if !self.has_response {
                                handle.start_response_timer();
                            }
                            if self.framing == Framing::Chunked {
                                wire::write_last_chunk(&mut self.out, None);
                            }
                            self.state = UploadState::Flushing;
                        }
                        Poll::Pending if self.is_flushed() => {
                            // The app has all that the client has sent.
                            handle.stop_response_timer();
                            return Poll::Pending;
                        }
                        Poll::Pending => {}
                    }
                }
                UploadState::Body | UploadState::Flushing => {}
            }
            match ready!(self.poll_flush(cx, stream)) {
                Ok(()) if self.state == UploadState::Flushing => self.state = UploadState::Done,
                Ok(()) => {}
                Err(_) => self.state = UploadState::Refused,
            }
        }
    }

    fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if self.framing == Framing::Chunked => wire::write_chunk(&mut self.out, &data),
            Ok(data) if data.len() <= SEND_TOGETHER => self.out.extend_from_slice(&data),
            Ok(data) => self.chunk = data,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers()
                    && self.framing == Framing::Chunked
                {
                    wire::write_last_chunk(&mut self.out, Some(&trailers));
                    self.state = UploadState::Flushing;
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            self.sent += ready!(stream.poll_send(cx, &self.out[self.sent..]))?;
        }
        if self.state == UploadState::Body {
            self.out.truncate(self.head);
            self.sent = self.head;
        }
        while !self.chunk.is_empty() {
            let sent = ready!(stream.poll_send(cx, &self.chunk))?;
            let _ = self.chunk.split_to(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.out.len() && self.chunk.is_empty()
    }

    /// Spawns a task that sends the rest beside the response.
    fn detach(mut self, connection: &Connection, keeps_alive: bool) -> UploadTask {
        self.has_response = true;
        let is_refused = !keeps_alive || self.state == UploadState::Refused;
        self.body.continue_beside_response(is_refused);
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        let stream = connection.stream.clone();
        let handle = Rc::clone(&connection.handle);
        let task = tokio::task::spawn_local(async move {
            let sent = poll_fn(|cx| self.poll(cx, &stream, &handle)).await;
            if sent.is_err() {
                // Neither end may take its half of the exchange for complete.
                handle.cut(CutCause::BrokenRequest);
            }
            done.set(sent.is_ok() && self.state == UploadState::Done);
        });
        UploadTask::new(is_done, task)
    }
}
