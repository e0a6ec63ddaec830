//! Connections of HTTP/2 that clients keep for the whole load, and requests on streams of them.
//!
//! Frames and fields are the library's, which handoff also uses: conformance is shown with clients of
//! others (h2spec, h2load, those of gRPC), and this one shows what swaps cost.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, Method, Version};
use sample_app::grpc;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::client::{Arrivals, count_events};
use super::failure::{Failed, Failure};
use super::http::Response;
use super::request::{Call, Destination, Request};

/// Bytes that a connection may receive ahead of its streams: more than they may all together.
const WINDOW: u32 = 16 * 1024 * 1024;

/// The connections, which carry requests in turn.
#[derive(Debug)]
pub(super) struct Connections {
    server: SocketAddr,
    kept: Vec<Mutex<Option<Kept>>>,
    /// Number of connections that were opened.
    opened: Cell<u64>,
}

#[derive(Clone, Debug)]
struct Kept {
    number: u64,
    requests: SendRequest<Bytes>,
}

// === impl Connections ===

impl Connections {
    /// Describes `count` connections, each of which is opened by its first request.
    pub(super) fn new(server: SocketAddr, count: usize) -> Self {
        Self {
            server,
            kept: (0..count).map(|_| Mutex::default()).collect(),
            opened: Cell::new(0),
        }
    }

    /// Sends `request` on a stream and reads its response. Also returns the longest delay of a part.
    ///
    /// # Errors
    /// `refused` without a connection, `connection_lost` when the server has ended it, `reset` when
    /// the stream ends before its response, `truncated` when it ends later.
    pub(super) async fn converse(
        &self,
        request: &Request,
        destination: &Destination,
    ) -> Result<(Response, Duration), Failed> {
        let place = (request.seq % self.kept.len() as u64) as usize;
        let Kept { number, requests } = self.open(place).await?;
        let result = async {
            let unsent = |error: h2::Error| explain(&error, Failure::Reset);
            let mut requests = requests.ready().await.map_err(unsent)?;
            let head = head(request, destination)?;
            let is_whole = head.method() == Method::GET;
            let (response, body) = requests.send_request(head, is_whole).map_err(unsent)?;
            let body = Some(body).filter(|_| !is_whole);
            // Both at once: an echo comes back while it is sent.
            let begun = Instant::now();
            let (sent, received) =
                tokio::join!(send(request, body), receive(request, response, begun));
            // A server that refuses a request may answer without reading the rest of it.
            received.map_err(|failed| match sent {
                Err(unsent) if failed.kind == Failure::Reset => unsent,
                Ok(()) | Err(_) => failed,
            })
        };
        let result = result.await;
        if matches!(&result, Err(failed) if failed.kind == Failure::ConnectionLost) {
            let mut kept = self.kept[place].lock().await;
            kept.take_if(|kept| kept.number == number);
        }
        result
    }

    async fn open(&self, place: usize) -> Result<Kept, Failed> {
        let mut kept = self.kept[place].lock().await;
        if let Some(kept) = &*kept {
            return Ok(kept.clone());
        }
        let refused =
            |error: String| Failed::new(Failure::Refused, format!("no connection: {error}"));
        let connect = async {
            let stream = TcpStream::connect(self.server).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = connect.await.map_err(|error| refused(error.to_string()))?;
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            .initial_connection_window_size(WINDOW);
        let handshake = builder.handshake(stream).await;
        let (requests, connection) = handshake.map_err(|error| refused(error.to_string()))?;
        // Its requests see how it ended.
        tokio::task::spawn_local(async move { drop(connection.await) });
        let number = self.opened.get();
        self.opened.set(number + 1);
        Ok(kept.insert(Kept { number, requests }).clone())
    }
}

fn head(request: &Request, destination: &Destination) -> Result<http::Request<()>, Failed> {
    let line = request.line(&destination.page);
    let (method, target) = line.split_once(' ').unwrap_or(("GET", "/"));
    let head = http::Request::builder()
        .version(Version::HTTP_2)
        .method(method)
        .uri(format!("http://{}{target}", destination.host))
        .header("x-request-id", request.seq);
    let head = if let Call::Echo(length) | Call::Upload(length) = request.call {
        head.header(CONTENT_LENGTH, length)
    } else if let Call::Grpc { .. } = request.call {
        head.header(CONTENT_TYPE, grpc::CONTENT_TYPE)
            .header(TE, "trailers")
    } else {
        head
    };
    let no_request =
        |error: http::Error| Failed::new(Failure::Wrong, format!("no request: {error}"));
    head.body(()).map_err(no_request)
}

/// Sends the body, if there is one; in parts with a pause after each if it has several.
async fn send(request: &Request, body: Option<SendStream<Bytes>>) -> Result<(), Failed> {
    let Some(mut body) = body else {
        return Ok(());
    };
    let (count, every) = request.parts();
    let mut next = Instant::now();
    for at in 0..count {
        sleep_until(next).await;
        next += every;
        send_part(&mut body, request.part(at).into(), at + 1 == count)
            .await
            .map_err(|error| explain(&error, Failure::Reset))?;
    }
    Ok(())
}

/// Sends a part of a body, whose last frame ends the request as that of most clients does.
async fn send_part(
    body: &mut SendStream<Bytes>,
    mut part: Bytes,
    is_last: bool,
) -> Result<(), h2::Error> {
    if part.is_empty() && is_last {
        return body.send_data(part, true);
    }
    while !part.is_empty() {
        body.reserve_capacity(part.len());
        let Some(capacity) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else {
            // The stream has ended, which its response explains.
            return Ok(());
        };
        let length = capacity?.min(part.len());
        let sent = part.split_to(length);
        body.send_data(sent, is_last && part.is_empty())?;
    }
    Ok(())
}

async fn receive(
    request: &Request,
    response: ResponseFuture,
    begun: Instant,
) -> Result<(Response, Duration), Failed> {
    let (head, mut body) = response
        .await
        .map_err(|error| explain(&error, Failure::Reset))?
        .into_parts();
    let mut response = Response {
        status: head.status.as_u16(),
        release: text(&head.headers, "x-release"),
        id: text(&head.headers, "x-request-id"),
        grpc_status: text(&head.headers, "grpc-status"),
        is_kept: true,
        ..Response::default()
    };
    let (every, count): (_, fn(&[u8]) -> usize) = if let Call::Events { every, .. } = request.call {
        (every, count_events)
    } else if let Call::Grpc { every, .. } = request.call {
        (every, count_messages)
    } else {
        (Duration::ZERO, |_| 0)
    };
    let mut arrivals = Arrivals::new(begun, every);
    let read = read(&mut body, |part| {
        response.body.extend_from_slice(part);
        arrivals.note(count(&response.body), Instant::now());
    });
    let trailers = read
        .await
        .map_err(|error| explain(&error, Failure::Truncated))?;
    if let Some(trailers) = trailers {
        response.grpc_status = text(&trailers, "grpc-status");
    }
    Ok((response, arrivals.late))
}

/// Reads a body to its end; returns its trailers.
async fn read(
    body: &mut RecvStream,
    mut progress: impl FnMut(&[u8]),
) -> Result<Option<HeaderMap>, h2::Error> {
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        progress(&part);
    }
    body.trailers().await
}

fn count_messages(mut body: &[u8]) -> usize {
    std::iter::from_fn(|| grpc::take(&mut body)).count()
}

fn text(fields: &HeaderMap, name: &str) -> Option<String> {
    Some(fields.get(name)?.to_str().ok()?.to_owned())
}

/// Describes an error, which is of this kind if it is of the stream alone.
fn explain(error: &h2::Error, kind: Failure) -> Failed {
    let is_lost = error.is_go_away() || error.is_io() || error.get_io().is_some();
    let kind = if is_lost {
        Failure::ConnectionLost
    } else {
        kind
    };
    Failed::new(kind, format!("a stream of HTTP/2: {error}"))
}

#[cfg(test)]
mod tests {
    use h2::Reason;
    use h2::server::{self, SendResponse};
    use sample_app::answers;
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::super::check::{Possible, check};
    use super::super::request::{Connection, Method as GrpcMethod};
    use super::*;

    const CALLS: usize = 5;

    type Stream = (http::Request<RecvStream>, SendResponse<Bytes>);

    /// Answers with these bytes and this status of gRPC.
    fn answer((_, mut respond): Stream, body: &[u8], status: &'static str) {
        let head = http::Response::builder().header("x-release", "v1");
        let mut send = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        send.send_data(Bytes::copy_from_slice(body), false).unwrap();
        let status = http::HeaderValue::from_static(status);
        let status = [(http::HeaderName::from_static("grpc-status"), status)];
        send.send_trailers(HeaderMap::from_iter(status)).unwrap();
    }

    fn call(seq: u64, method: GrpcMethod) -> Request {
        Request {
            seq,
            connection: Connection::Stream,
            call: Call::Grpc {
                method,
                count: 2,
                every: Duration::ZERO,
            },
        }
    }

    /// Makes calls of a server whose connections do this with each stream; the failures.
    fn calls(
        method: GrpcMethod,
        act: fn(&mut server::Connection<TcpStream, Bytes>, Stream),
    ) -> [Option<Failure>; CALLS] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let calls = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = listener.local_addr().unwrap();
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::task::spawn_local(async move {
                        let mut connection = server::handshake(stream).await.unwrap();
                        while let Some(Ok(stream)) = connection.accept().await {
                            act(&mut connection, stream);
                        }
                    });
                }
            });
            let connections = Connections::new(server, 1);
            let destination = Destination::at(server);
            let mut failures = [None; CALLS];
            for (seq, failure) in (0..).zip(&mut failures) {
                let request = call(seq, method);
                let result = connections.converse(&request, &destination).await;
                let checked = result.and_then(|(response, _)| {
                    let possible = Possible {
                        oldest: 1,
                        newest: 1,
                    };
                    check(&request, &response, possible, false)
                });
                *failure = checked.err().map(|failed| failed.kind);
            }
            failures
        };
        runtime.block_on(LocalSet::new().run_until(calls))
    }

    fn version() -> Vec<u8> {
        grpc::frame(&grpc::text(b"v1")).to_vec()
    }

    #[test]
    fn a_call_is_right_with_its_message_and_status_0_alone() {
        let version_with = |act| calls(GrpcMethod::Version, act);
        assert_eq!(
            version_with(|_, it| answer(it, &version(), "0")),
            [None; CALLS]
        );
        for (act, kind) in [
            (
                (|_, it| answer(it, &version(), "13")) as fn(&mut _, Stream),
                Failure::Status,
            ),
            // Only a stream of events may outlast a drain.
            (|_, it| answer(it, &version(), "14"), Failure::Status),
            (|_, it| answer(it, b"", "0"), Failure::Lost),
            (
                |_, it| answer(it, &version().repeat(2), "0"),
                Failure::MixedUp,
            ),
            (
                |_, (_, mut it)| it.send_reset(Reason::CANCEL),
                Failure::Reset,
            ),
        ] {
            assert_eq!(version_with(act), [Some(kind); CALLS]);
        }
    }

    #[test]
    fn a_stream_of_events_may_be_cut_between_two_once_a_newer_release_is_there() {
        let event = |number| {
            let text = answers::event(number, 2, "v1");
            grpc::frame(&grpc::text(text.as_bytes())).to_vec()
        };
        let request = call(7, GrpcMethod::Events);
        let found = |newest, numbers: &[u64], status: &str| {
            let response = Response {
                status: 200,
                release: Some("v1".to_owned()),
                body: numbers.iter().flat_map(|number| event(*number)).collect(),
                grpc_status: Some(status.to_owned()),
                ..Response::default()
            };
            let possible = Possible { oldest: 1, newest };
            let checked = check(&request, &response, possible, false);
            checked.err().map(|failed| failed.kind)
        };
        assert_eq!(found(1, &[1, 2], "0"), None);
        assert_eq!(found(2, &[1], "14"), None);
        assert_eq!(found(1, &[1], "14"), Some(Failure::Lost));
        assert_eq!(found(2, &[1], "0"), Some(Failure::Lost));
        assert_eq!(found(2, &[2], "14"), Some(Failure::MixedUp));
        assert_eq!(found(2, &[1], "1"), Some(Failure::Status));
    }

    #[test]
    fn a_connection_that_the_server_ends_is_lost_and_another_one_is_opened() {
        let shut = |connection: &mut server::Connection<_, _>, it| {
            answer(it, &version(), "0");
            connection.graceful_shutdown();
        };
        // The next request may be faster than the word of it.
        let lost = Some(Failure::ConnectionLost);
        let found = calls(GrpcMethod::Version, shut);
        assert!(found.contains(&lost) && found.contains(&None), "{found:?}");
        let is_other = |found: &&Option<Failure>| **found != lost && found.is_some();
        assert_eq!(found.iter().find(is_other), None);
        let abrupt = |connection: &mut server::Connection<_, _>, _| {
            connection.abrupt_shutdown(Reason::NO_ERROR);
        };
        assert_eq!(
            calls(GrpcMethod::Version, abrupt),
            [Some(Failure::ConnectionLost); CALLS]
        );
    }
}
