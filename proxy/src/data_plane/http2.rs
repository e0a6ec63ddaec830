//! HTTP/2 with prior knowledge (RFC 9113, section 3.3): many streams on one connection, each of which
//! is forwarded as a request of its own.
//!
//! A stream acquires its upstream as an HTTP/1 request does, so the connection outlives every handoff:
//! new streams go to the new release at once. Of the connection itself the sweep watches what it sees
//! of all: clients that take nothing, that are idle, or that have left.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error as _;
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::activity::{Activity, ClientState, Ending};
use super::bound::BoundSlot;
use super::client_streams::{ClientStreams, IdleBytes, OpenStream};
use super::connections::{Client, Connections, OpenConnection, Tracking};
use super::context::ForwardContext;
use super::forward::Forward;
use super::http2_websocket;
use super::response_body::ResponseBody;
use super::settings::DataPlaneSettings;
use super::stream::{ClientIo, Stream};

/// Maximum number of streams that are open at a time on one connection.
const MAX_STREAMS: u32 = 128;
/// Maximum number of bytes of a response that are one part: a client that takes less for as long as
/// `--client-timeout` takes nothing. It is the size of a frame.
const PART: usize = 16 * 1024;
/// Number of bytes of a request's body that a client may send ahead of the app.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Maximum number of bytes of a response that wait for a client that takes it slowly.
const SEND_BUFFER: usize = 64 * 1024;
/// Interval between two pings to a client that is silent, and the time for their answer: a client that
/// has gone without a word leaves no end of the connection.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Empty settings, and a GOAWAY with the reason `HTTP_1_1_REQUIRED` (RFC 9113, sections 6.5 and 6.8).
const REFUSAL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d";

/// A GOAWAY with the reason `ENHANCE_YOUR_CALM`.
const CALM: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0b";

/// The future of a connection. Ends it between two streams when the worker drains.
struct Http2Task {
    connection: http2::Connection<TokioIo<ClientIo>, StreamService, StreamExecutor>,
    connections: Rc<Connections>,
    client: Rc<Client>,
    streams: Rc<ClientStreams>,
    idle_bytes: IdleBytes,
    tracking: Option<Tracking>,
    is_shutting_down: bool,
}

/// The end of a connection.
enum Http2End {
    Closed(hyper::Result<()>),
    /// Its client asks for too much.
    Flooded,
}

/// The service of one connection: forwards the requests of its streams.
struct StreamService {
    context: Rc<ForwardContext>,
    client: Rc<Client>,
    streams: Rc<ClientStreams>,
    /// Maximum number of fields of a request; the library limits their size.
    max_headers: usize,
    executor: StreamExecutor,
}

/// The body of a stream's response. Between two of its parts, hyper waits for the client's window.
struct StreamBody {
    body: ResponseBody,
    open: Rc<OpenStream>,
    /// The client of this stream.
    client: Rc<Client>,
    /// The rest of a part that is more than the client takes at once.
    rest: Bytes,
}

/// Runs the futures of streams on the thread of their connection.
#[derive(Clone, Default)]
struct StreamExecutor {
    /// The client of the stream that has just begun: its future is the next one.
    begun: Rc<RefCell<Option<Rc<Client>>>>,
}

/// Serves a connection whose first bytes, which have been received, are those of HTTP/2.
pub(super) async fn serve(
    client: Rc<Client>,
    context: Rc<ForwardContext>,
    connections: Rc<Connections>,
    settings: &DataPlaneSettings,
    received: Bytes,
) -> hyper::Result<()> {
    client.activity.enter(ClientState::IdleHttp2);
    let (stream, activity) = (client.stream.clone(), Arc::clone(&client.activity));
    let io = TokioIo::new(ClientIo::new(stream, activity, received));
    let streams = ClientStreams::new(&client.activity);
    let executor = StreamExecutor::default();
    let service = StreamService {
        context: Rc::clone(&context),
        client: Rc::clone(&client),
        streams: Rc::clone(&streams),
        max_headers: settings.max_headers,
        executor: executor.clone(),
    };
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(settings.max_header_size.try_into().unwrap_or(u32::MAX))
        .enable_connect_protocol()
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .serve_connection(io, service);
    let task = Http2Task {
        connection,
        connections,
        client: Rc::clone(&client),
        streams,
        idle_bytes: IdleBytes::new(),
        tracking: None,
        is_shutting_down: false,
    };
    let is_told = match task.await {
        Http2End::Closed(ended) if !ended.as_ref().is_err_and(is_flood) => return ended,
        Http2End::Closed(_) => true,
        Http2End::Flooded => false,
    };
    if let Some(counters) = &context.counters {
        counters.count_flood();
    }
    warn_of_flood(&client);
    if !client.activity.is_write_blocked() {
        if !is_told {
            client.stream.send_best_effort(CALM);
        }
        // A close with bytes unread would take the reason from the client.
        client.activity.set_ending(Ending::Linger);
    }
    Ok(())
}

/// Tells a client that it has to use HTTP/1.1.
pub(super) fn refuse(client: &Client) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            event = "http2_refused",
            peer = %client.peer.address(),
            "a client that speaks HTTP/2 without asking was told to use HTTP/1.1 (--http2 off); \
             further ones are not logged"
        );
    });
    client.stream.send_best_effort(REFUSAL);
}

/// Returns true if the library has ended the connection for what its client did too often.
fn is_flood(error: &hyper::Error) -> bool {
    let cause = error.source();
    let cause = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

fn warn_of_flood(client: &Client) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            event = "http2_flooded",
            peer = %client.peer.address(),
            "a client cancelled or sent so much that its HTTP/2 connection was ended; further ones \
             are not logged"
        );
    });
}

/// Moves the authority to `Host`, where HTTP/1.1 has it. The parser has refused what is none.
fn use_origin_form(request: &mut Request<Incoming>) {
    let uri = request.uri();
    let Some(path) = uri.path_and_query().cloned() else {
        return;
    };
    let host = uri.authority().map(|authority| authority.as_str());
    // With a password in it, it is left to the check of absolute targets.
    let host = host.filter(|host| !host.contains('@'));
    if let Some(Ok(host)) = host.map(HeaderValue::from_str) {
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from(path);
    }
}

/// Joins the parts of a cookie, which HTTP/1.1 has in one field (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut parts = headers.get_all(header::COOKIE).iter();
    if parts.by_ref().nth(1).is_none() {
        return;
    }
    let parts = headers.get_all(header::COOKIE).iter();
    let parts: Vec<&[u8]> = parts.map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Leaves one length of several: the parser has refused those that differ.
fn merge_lengths(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(length), Some(_)) = (lengths.next(), lengths.next()) {
        let length = length.clone();
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

// === impl Http2Task ===

impl Future for Http2Task {
    type Output = Http2End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Http2End> {
        let this = &mut *self;
        if this.tracking.is_none() {
            // A task's waker stays the same.
            this.tracking = Some(this.client.track(cx.waker()));
        }
        let activity = &this.client.activity;
        let is_close_requested = activity.is_close_requested();
        if is_close_requested && (this.is_shutting_down || activity.state() == ClientState::Request)
        {
            // The client has left, or takes nothing.
            return Poll::Ready(Http2End::Closed(Ok(())));
        }
        activity.withdraw_close();
        activity.begin_turn(this.idle_bytes.next_turn());
        let before = activity.received();
        let mut polled = Pin::new(&mut this.connection).poll(cx);
        // hyper ends at a CONNECT with a length, whose stream it has reset. The others go on when it is
        // asked again. A connection that is over has been shut down.
        while matches!(polled, Poll::Ready(Ok(()))) && !activity.is_shut_down() {
            polled = Pin::new(&mut this.connection).poll(cx);
        }
        let received = activity.received().wrapping_sub(before);
        this.idle_bytes.record(received, activity.take_progress());
        if this.idle_bytes.are_too_many() || this.streams.are_cancelled_too_often() {
            return Poll::Ready(Http2End::Flooded);
        }
        let should_end =
            || is_close_requested || this.connections.should_announce_end(&this.client);
        if polled.is_pending() && !this.is_shutting_down && should_end() {
            this.is_shutting_down = true;
            if activity.state() == ClientState::IdleHttp2 {
                // Its time to close the connection begins now.
                activity.enter(ClientState::IdleHttp2);
            }
            let mut connection = Pin::new(&mut this.connection);
            connection.as_mut().graceful_shutdown();
            return connection.poll(cx).map(Http2End::Closed);
        }
        polled.map(Http2End::Closed)
    }
}

// === impl StreamService ===

impl hyper::service::Service<Request<Incoming>> for StreamService {
    type Response = Response<StreamBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.streams.open();
        let is_websocket = http2_websocket::use_upgrade(&mut request);
        use_origin_form(&mut request);
        join_cookies(request.headers_mut());
        merge_lengths(request.headers_mut());
        let stream = Rc::new(Client {
            peer: self.client.peer.clone(),
            // What ends a connection of HTTP/1 ends a stream alone.
            stream: Stream::detached(),
            activity: Arc::new(Activity::new()),
            bound: BoundSlot::default(),
            open: OpenConnection::OfStream(Rc::clone(&self.client), Rc::clone(&open)),
        });
        self.executor.begin(&stream);
        if request.headers().len() > self.max_headers {
            let mut refused = Response::new(StreamBody::new(ResponseBody::Empty, open, stream));
            *refused.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Box::pin(ready(Ok(refused)));
        }
        let forward = Forward::new(Rc::clone(&self.context), Rc::clone(&stream));
        let response = forward.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            if is_websocket {
                http2_websocket::accept(&mut response);
            }
            Ok(response.map(|body| StreamBody::new(body, open, stream)))
        })
    }
}

// === impl StreamBody ===

impl StreamBody {
    fn new(body: ResponseBody, open: Rc<OpenStream>, client: Rc<Client>) -> Self {
        if !body.is_end_stream() {
            client.activity.record_flush(true);
        }
        Self {
            body,
            open,
            client,
            rest: Bytes::new(),
        }
    }

    /// Returns the first part of the data, and keeps the rest.
    fn hand_out(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(PART));
        self.open.count_progress();
        let activity = &self.client.activity;
        activity.record_write(data.len());
        activity.record_flush(true);
        Frame::data(data)
    }
}

impl Body for StreamBody {
    type Data = <ResponseBody as Body>::Data;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        // The client has taken the part before, and awaits the next one.
        this.client.activity.record_flush(false);
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.hand_out(rest))));
        }
        let polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) => this.hand_out(data),
                Err(frame) => {
                    this.open.count_progress();
                    frame
                }
            })),
            ended => {
                this.open.mark_ended();
                ended
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // hyper does not ask for more than the stated length.
        if self.is_end_stream() {
            self.open.mark_ended();
        }
    }
}

// === impl StreamExecutor ===

impl StreamExecutor {
    /// Notes that the next future is that of this client's stream.
    fn begin(&self, client: &Rc<Client>) {
        *self.begun.borrow_mut() = Some(Rc::clone(client));
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    /// Runs the future of a stream, or of a tunnel's end, which has its own clock.
    fn execute(&self, future: F) {
        let Some(client) = self.begun.take() else {
            tokio::task::spawn_local(future);
            return;
        };
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            let mut tracking = None;
            poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                if polled.is_pending() && client.activity.is_write_blocked() {
                    // It is watched while it waits for the client.
                    tracking.get_or_insert_with(|| client.track(cx.waker()));
                    if client.activity.is_close_requested() {
                        // Its end resets the stream.
                        return Poll::Ready(());
                    }
                } else {
                    tracking = None;
                }
                polled.map(drop)
            })
            .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_cookie_become_one_field() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for part in ["a=1", "b=2", "c=3"] {
            headers.append(header::COOKIE, HeaderValue::from_static(part));
        }
        join_cookies(&mut headers);
        let all: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
    }
}
