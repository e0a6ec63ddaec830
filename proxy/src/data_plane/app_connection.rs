//! One connection to the app, and the pool's handle to it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::clock::{Mark, Moment};
use super::habits::{FirstRequest, Habits, KeptMark};
use super::headers;
use super::shared_pool::Place;
use super::stream::Stream;
use crate::release::Generation;
use crate::router::Class;

/// Number of bytes to receive at a time; enough for most responses.
const RECEIVE: usize = 8 * 1024;
/// Maximum number of bytes to receive at a time. Long responses then take fewer system calls, at
/// the price of this much memory for each client that is slower than the app. (With 256 KiB,
/// responses of 1 MiB cost a sixth less CPU time than with 64 KiB; values in between have not been
/// measured on a quiet machine.)
const RECEIVE_MORE: usize = 128 * 1024;
/// Maximum time for the app to close a connection after its last response.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A connection to the app. It serves one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Bytes that were received and not yet decoded.
    pub(super) received: BytesMut,
    last_received: usize,
    /// The request under way; its memory is reused for the next one.
    pub(super) out: Vec<u8>,
    pub(super) handle: Rc<ConnectionHandle>,
    idle_since: Instant,
    idle_timeout: Duration,
    /// It has served a request before: its end may have nothing to do with the present one.
    pub(super) is_reused: bool,
    /// It serves no further request.
    pub(super) is_single_use: bool,
}

/// The pool's handle to a connection in use.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    generation: Generation,
    class: Cell<Class>,
    cut: Cell<Option<CutCause>>,
    /// Waker of the task that reads from the connection.
    reader: RefCell<Option<Waker>>,
    /// Start of the wait for the head of a response.
    waiting: Cell<Option<Mark>>,
    /// Start of the wait for more of a response's body.
    reading: Cell<Option<Mark>>,
    is_closing: Cell<bool>,
    closing: Notify,
    /// Set once it has served a request.
    kept: OnceCell<KeptMark>,
    /// Set by each answer, on any connection of the generation; the sweep takes it back.
    answered: Rc<Cell<bool>>,
    habits: Arc<Habits>,
    _place: Option<Place>,
}

/// The reason for which a connection in use was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutCause {
    /// The upstream was evicted: the request outlasted its drain.
    Evicted,
    /// The app did not respond in time.
    TimedOut,
    /// The client's request broke off, or stopped, beside the response.
    BrokenRequest,
}

// === impl Connection ===

impl Connection {
    /// Returns a new connection. A single-use one serves one request.
    pub(super) fn new(
        stream: Stream,
        handle: Rc<ConnectionHandle>,
        idle_timeout: Duration,
        is_single_use: bool,
    ) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            last_received: 0,
            out: Vec::new(),
            handle,
            idle_since: Instant::now(),
            idle_timeout,
            is_reused: false,
            is_single_use,
        }
    }

    /// Receives more bytes; zero at the end of the stream. `expected` is the number of bytes to
    /// come, if known.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        expected: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        if self.handle.cut.get().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        // While nothing has arrived, a new connection has no room for it.
        if self.received.capacity() == 0 && self.stream.poll_readable(cx)?.is_pending() {
            self.handle.register_reader(cx);
            return Poll::Pending;
        }
        let room = match expected {
            Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
            None => self.last_received.saturating_mul(2),
        };
        self.received.reserve(room.clamp(RECEIVE, RECEIVE_MORE));
        let received = self.stream.poll_receive(cx, &mut self.received);
        match received {
            Poll::Ready(Ok(length)) => self.last_received = length,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.handle.register_reader(cx),
        }
        received
    }

    /// Receives more bytes of a response's body, as [`Connection::poll_receive`] does.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        expected: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        self.handle.await_body();
        let received = ready!(self.poll_receive(cx, expected));
        self.handle.receive_body();
        Poll::Ready(received)
    }

    /// Returns `true` if no byte follows its last response (RFC 9112, section 9.2).
    pub(super) fn is_reusable(&self) -> bool {
        self.received.is_empty() && self.handle.cut.get().is_none()
    }

    /// Prepares the connection for its next request.
    pub(super) fn renew(&mut self) {
        if !self.is_reused {
            self.is_reused = true;
            let ConnectionHandle { kept, habits, .. } = &*self.handle;
            kept.get_or_init(|| habits.mark_kept());
        }
        self.last_received = 0;
        self.idle_since = Instant::now();
        self.handle.class.set(Class::Request);
    }

    /// Returns the time for which it has been idle.
    pub(super) fn idle_time(&self, now: Instant) -> Duration {
        now.duration_since(self.idle_since)
    }

    /// Closes it after its last response, if possible behind the app.
    ///
    /// The port of the end that closes first stays in use for a minute or more (TIME_WAIT: RFC 9293,
    /// section 3.6.1). On the app's end that is its own port each time; here it would be a new one,
    /// and after some thousand none would be left. A reset leaves none either; nothing is under way
    /// that it could destroy.
    pub(super) async fn close_behind_app(mut self: Box<Self>) {
        let closed = timeout(CLOSE_TIMEOUT, self.stream.read(&mut [0])).await;
        if !matches!(closed, Ok(Ok(0))) {
            self.stream.reset_on_close();
        }
    }

    /// Sets the idle timeout to one second less than the app announces in `Keep-Alive: timeout=5`.
    pub(super) fn learn_idle_timeout(&mut self, headers: &HeaderMap) {
        if let Some(timeout) = headers::keep_alive_timeout(headers) {
            self.idle_timeout = timeout.saturating_sub(Duration::from_secs(1));
        }
    }

    /// Returns `true` if it may wait for another request at all.
    pub(super) fn may_idle(&self) -> bool {
        !self.idle_timeout.is_zero()
    }

    /// Returns `true` if it has been idle for too long.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.idle_time(now) >= self.idle_timeout
    }
}

// === impl ConnectionHandle ===

impl ConnectionHandle {
    /// Returns the handle of a new connection; of a stream, whose connection has the place, without
    /// one.
    pub(super) fn new(
        generation: Generation,
        answered: Rc<Cell<bool>>,
        habits: Arc<Habits>,
        place: Option<Place>,
    ) -> Self {
        Self {
            generation,
            class: Cell::new(Class::Request),
            cut: Cell::new(None),
            reader: RefCell::default(),
            waiting: Cell::new(None),
            reading: Cell::new(None),
            is_closing: Cell::new(false),
            closing: Notify::new(),
            kept: OnceCell::new(),
            answered,
            habits,
            _place: place,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn class(&self) -> Class {
        self.class.get()
    }

    /// Dates the wait for the head of a response, and returns its time, if there is one.
    pub(super) fn response_wait(&self, now: Moment) -> Option<Duration> {
        let since = self.waiting.get()?.dated(now);
        self.waiting.set(Some(since));
        Some(since.age(now))
    }

    /// Dates the wait for more of a response's body, and cuts the connection if it has lasted for
    /// `limit`. Returns `true` if it did.
    pub(super) fn cut_if_stalled(&self, limit: Duration, now: Moment) -> bool {
        let Some(since) = self.reading.get().map(|since| since.dated(now)) else {
            return false;
        };
        self.reading.set(Some(since));
        let is_stalled = since.age(now) >= limit && self.cut.get().is_none();
        if is_stalled {
            self.cut(CutCause::TimedOut);
        }
        is_stalled
    }

    /// Marks that more of a response's body is awaited, unless it has been for a while.
    pub(super) fn await_body(&self) {
        self.reading.set(self.reading.get().or(Some(Mark::NEW)));
    }

    /// Marks that more of a response's body, or its end, has arrived.
    pub(super) fn receive_body(&self) {
        self.reading.set(None);
    }

    /// Returns the state of its first request; `None` while the client or the app is sending.
    pub(super) fn first_request(&self) -> Option<FirstRequest> {
        if self.kept.get().is_some() {
            let others_kept = self.habits.kept() - 1;
            return Some(FirstRequest::Answered { others_kept });
        }
        self.waiting.get().map(|_| FirstRequest::Unanswered)
    }

    /// Marks the connection as a tunnel: it lasts until one side ends it.
    pub(super) fn mark_tunnel(&self) {
        self.class.set(Class::Tunnel);
    }

    /// Starts the response timer: the app has the request, or more of it.
    pub(super) fn start_response_timer(&self) {
        self.waiting.set(Some(Mark::NEW));
    }

    /// Stops the response timer: the response has begun, or the app has all that the client has sent
    /// so far.
    pub(super) fn stop_response_timer(&self) {
        self.waiting.set(None);
    }

    /// Marks that the app has answered a request.
    pub(super) fn mark_answered(&self) {
        self.answered.set(true);
    }

    /// Returns the reason for which it was cut, if it was.
    pub(super) fn cut_cause(&self) -> Option<CutCause> {
        self.cut.get()
    }

    /// Waits until it is cut.
    pub(super) async fn wait_until_cut(&self) {
        std::future::poll_fn(|cx| {
            self.register_reader(cx);
            match self.cut.get() {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Returns `true` if this tunnel is to close.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Asks the tunnel to close.
    pub(super) fn close_tunnel(&self) {
        self.is_closing.set(true);
        self.closing.notify_waiters();
        // A stream of events ends when it is polled.
        if let Some(reader) = &*self.reader.borrow() {
            reader.wake_by_ref();
        }
    }

    /// Waits until the tunnel is to close.
    pub(super) async fn wait_until_closing(&self) {
        self.closing.notified().await;
    }

    /// Cuts the connection.
    pub(super) fn cut(&self, cause: CutCause) {
        self.cut.set(Some(cause));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Sets the task that is woken when it is cut.
    pub(super) fn register_reader(&self, cx: &Context<'_>) {
        let mut reader = self.reader.borrow_mut();
        match &mut *reader {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *reader = Some(cx.waker().clone()),
        }
    }
}

/// Logs that `count` responses of a generation were cut, if there are any.
pub(super) fn report_stalled(generation: Generation, count: u32) {
    if count > 0 {
        tracing::warn!(
            event = "responses_stalled",
            %generation,
            count,
            "responses are cut: the app has sent nothing of their rest for --response-idle-timeout"
        );
    }
}
