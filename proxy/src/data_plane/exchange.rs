//! One request and its answer on one connection to the app.
//!
//! Sending and receiving go on side by side: an app may answer before it has read the whole body,
//! and its answer counts even when it then resets the connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Uri, request};
use http_body::{Body as _, Frame};
use tokio::task::AbortHandle;

use super::body::RequestBody;
use super::headers::{Added, Present};
use super::pool::{Connection, Cut, Member};
use super::stream::Stream;
use super::wire::{self, Decoded, Decoder, Head, Malformed};

/// As much of a body is sent along with what is before it.
const SEND_TOGETHER: usize = 16 * 1024;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    head: request::Parts,
    added: Added,
    /// Its head as it was sent, until an answer begins: it can be sent again.
    written: Vec<u8>,
    body: RequestBody,
    is_chunked: bool,
    /// A byte of an answer has come, if only of an interim one.
    has_arrived: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection was cut by us.
    #[error("{}", match .0 {
        Cut::Evicted => "the release that worked on this was replaced, and its time is over",
        Cut::TimedOut => "the application did not answer in time",
        Cut::Stalled => "the rest of the request did not come in time",
    })]
    Cut(Cut),
    /// The connection ended before any byte of an answer.
    #[error("the application ended the connection without an answer: {0}")]
    Silent(io::Error),
    /// The connection ended in the head of an answer.
    #[error("the application ended the connection in the middle of an answer: {0}")]
    Broken(io::Error),
    /// What came was no answer.
    #[error("the application cannot be understood: {0}")]
    Malformed(#[from] Malformed),
    /// The client's body ended early: it has left.
    #[error("the client's request was cut off: {0}")]
    Client(hyper::Error),
}

/// The rest of an answer.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) connection: Box<Connection>,
    decoder: Decoder,
    upload: Option<Uploading>,
    keeps_alive: bool,
}

/// A body that is still being sent while the answer comes.
#[derive(Debug)]
struct Uploading {
    is_done: Rc<Cell<bool>>,
    task: AbortHandle,
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn new(head: request::Parts, added: Added, body: RequestBody) -> Self {
        Self {
            is_chunked: body.size_hint().exact().is_none(),
            head,
            added,
            written: Vec::new(),
            body,
            has_arrived: false,
        }
    }

    /// Whether sending it twice does what sending it once does (RFC 9110, section 9.2.2), and is
    /// possible.
    pub(super) fn is_replayable(&self) -> bool {
        self.head.method.is_idempotent() && matches!(self.body, RequestBody::Empty)
    }

    /// Says this too, and nothing else under that name.
    pub(super) fn say(&mut self, name: HeaderName, value: HeaderValue) {
        self.head.headers.insert(name, value);
    }

    /// Sends it, and receives the head of the answer.
    ///
    /// # Errors
    /// [`Failure`] when there is none.
    pub(super) async fn exchange(
        &mut self,
        mut connection: Box<Connection>,
    ) -> Result<(Head, Receiving), Failure> {
        let mut upload = Upload {
            out: std::mem::take(&mut connection.out),
            sent: 0,
            chunk: Bytes::new(),
            body: std::mem::replace(&mut self.body, RequestBody::Empty),
            is_chunked: self.is_chunked,
            is_answered: false,
            state: Sending::Body,
        };
        self.write_head(&mut upload.out);
        connection.member.owes();
        let head = poll_fn(|cx| self.poll_exchange(cx, &mut connection, &mut upload)).await;
        connection.member.answered();
        let head = match head {
            Ok(head) => head,
            Err(failure) => {
                self.written = upload.out;
                return Err(failure);
            }
        };
        let decoder = Decoder::of(&head, &self.head.method)?;
        if head.present.has(Present::KEEP_ALIVE) {
            connection.learn(&head.headers);
        }
        let keeps_alive = head.keeps_alive();
        let upload = upload.go_on(&mut connection);
        let receiving = Receiving {
            connection,
            decoder,
            upload,
            keeps_alive,
        };
        Ok((head, receiving))
    }

    /// Writes the head, or what was written of it for another connection.
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
        wire::write_head(out, method, uri, headers, added, self.is_chunked);
        // What came from the client is let go of: hyper reads into that memory again. And it hands
        // the map of an answer to the next request, so one map goes round.
        self.head.uri = Uri::default();
        self.head.headers.clear();
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        upload: &mut Upload,
    ) -> Poll<Result<Head, Failure>> {
        if let Poll::Ready(Err(error)) = upload.poll(cx, &connection.stream, &connection.member) {
            return Poll::Ready(Err(Failure::Client(error)));
        }
        loop {
            if !connection.received.is_empty() {
                // It has reached the app and will not be sent again.
                self.has_arrived = true;
            }
            let map = &mut self.head.headers;
            while let Some(head) = wire::read_head(&mut connection.received, map)? {
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
                // Through hyper no interim answer can be passed on: its server takes one for the
                // final one, and for an error.
                *map = head.headers;
                map.clear();
            }
            let received = ready!(connection.poll_receive(cx, None));
            let error = match received {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => continue,
                Err(error) => error,
            };
            return Poll::Ready(Err(match connection.member.why_cut() {
                Some(cut) => Failure::Cut(cut),
                None if self.has_arrived => Failure::Broken(error),
                None => Failure::Silent(error),
            }));
        }
    }
}

// === impl Receiving ===

impl Receiving {
    /// The next part of the answer's body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match self.decoder.decode(&mut self.connection.received) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(map)) => return Poll::Ready(Some(Ok(Frame::trailers(map)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(malformed) => return Poll::Ready(Some(Err(io::Error::other(malformed)))),
            }
            match ready!(self.connection.poll_receive(cx, self.decoder.remaining())) {
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

    /// Whether the whole body has been taken.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// How many bytes are to come, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// The connection, if it may serve another request.
    pub(super) fn reusable(self) -> Option<Box<Connection>> {
        let is_sent = match &self.upload {
            Some(upload) => upload.is_done.get(),
            None => true,
        };
        (self.keeps_alive && is_sent && self.is_done()).then_some(self.connection)
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        // An answer that is complete ends its request.
        self.task.abort();
    }
}

/// The sending half of an exchange.
struct Upload {
    /// The head, and then the framing of a chunked body and small parts of any.
    out: Vec<u8>,
    sent: usize,
    /// A part too large to be copied; it goes after `out`.
    chunk: Bytes,
    body: RequestBody,
    is_chunked: bool,
    /// The app owes nothing more, however long the client takes for the rest.
    is_answered: bool,
    state: Sending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// There is more of the body to come.
    Body,
    /// Only what is in the buffers is left.
    Last,
    /// Nothing is left.
    Done,
    /// The app takes no more. Its answer may have arrived before, so that alone is no failure.
    Refused,
}

// === impl Upload ===

impl Upload {
    /// Sends what can be sent. Ready when all is sent, or no more will be taken; an error is the
    /// client's.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        member: &Member,
    ) -> Poll<Result<(), hyper::Error>> {
        loop {
            match self.state {
                Sending::Done | Sending::Refused => return Poll::Ready(Ok(())),
                // What is small goes out together with the head.
                Sending::Body
                    if self.out.len() - self.sent < SEND_TOGETHER && self.chunk.is_empty() =>
                {
                    match Pin::new(&mut self.body).poll_frame(cx) {
                        Poll::Ready(Some(frame)) => {
                            self.add(frame?);
                            if !self.is_answered {
                                member.owes();
                            }
                            continue;
                        }
                        Poll::Ready(None) => {
                            if !self.is_answered {
                                member.owes();
                            }
                            if self.is_chunked {
                                wire::write_last_chunk(&mut self.out, None);
                            }
                            self.state = Sending::Last;
                        }
                        Poll::Pending if self.is_flushed() => {
                            member.waits_for_client();
                            return Poll::Pending;
                        }
                        Poll::Pending => {}
                    }
                }
                Sending::Body | Sending::Last => {}
            }
            match ready!(self.poll_flush(cx, stream)) {
                Ok(()) if self.state == Sending::Last => self.state = Sending::Done,
                Ok(()) => {}
                Err(_) => self.state = Sending::Refused,
            }
        }
    }

    fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if self.is_chunked => wire::write_chunk(&mut self.out, &data),
            Ok(data) if data.len() <= SEND_TOGETHER => self.out.extend_from_slice(&data),
            Ok(data) => self.chunk = data,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers()
                    && self.is_chunked
                {
                    wire::write_last_chunk(&mut self.out, Some(&trailers));
                    self.state = Sending::Last;
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            self.sent += ready!(stream.poll_send(cx, &self.out[self.sent..]))?;
        }
        if self.state == Sending::Body {
            self.out.clear();
            self.sent = 0;
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

    /// Gives the connection its buffer back; or, with more to send, goes on beside the answer.
    fn go_on(mut self, connection: &mut Connection) -> Option<Uploading> {
        if self.state == Sending::Done {
            connection.out = self.out;
            return None;
        }
        self.is_answered = true;
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        let stream = connection.stream.clone();
        let member = Rc::clone(&connection.member);
        let task = tokio::task::spawn_local(async move {
            let sent = poll_fn(|cx| self.poll(cx, &stream, &member)).await;
            done.set(sent.is_ok() && self.state == Sending::Done);
        });
        Some(Uploading {
            is_done,
            task: task.abort_handle(),
        })
    }
}
