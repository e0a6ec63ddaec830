//! HTTP/2 with prior knowledge: clients whose one connection carries many requests, and outlives every
//! handoff.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tests::http2::frames::{SETTINGS, opening};
use tests::stage::{Stage, Wire, field};
use tests::tools::has;
use tests::wait::sleep_for;
use tests::{Running, Site, app};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Maximum time for what has to happen.
const LONG: Duration = Duration::from_secs(30);

/// A client with one connection. It is served while one of its methods waits.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    address: SocketAddr,
}

/// A request whose response is awaited.
pub(crate) struct Sent {
    pub(crate) response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

// === impl Client ===

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let connected = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await;
            let stream = stream.expect("a connection");
            let mut builder = Builder::new();
            builder.max_concurrent_reset_streams(100_000);
            builder.handshake(stream).await.expect("a handshake")
        });
        let (requests, connection) = connected;
        let connection = runtime.spawn(connection);
        Self {
            runtime,
            requests,
            connection,
            address,
        }
    }

    /// Sends what is to be sent, without waiting for an answer.
    pub(crate) fn flush(&self) {
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// Lets the connection go on until `wanted` is there.
    #[track_caller]
    pub(crate) fn await_ok<T, E: std::fmt::Debug>(
        &self,
        wanted: impl Future<Output = Result<T, E>>,
    ) -> T {
        let waited = async { tokio::time::timeout(LONG, wanted).await };
        self.runtime
            .block_on(waited)
            .expect("in time")
            .expect("no error")
    }

    #[track_caller]
    pub(crate) fn send(&mut self, request: http::request::Builder, is_whole: bool) -> Sent {
        let request = request.body(()).expect("a request");
        let ready = poll_fn(|cx| self.requests.poll_ready(cx));
        let waited = async { tokio::time::timeout(LONG, ready).await };
        let ready = self.runtime.block_on(waited).expect("in time");
        ready.expect("an open connection");
        let sent = self.requests.send_request(request, is_whole);
        let (response, body) = sent.expect("a request is sent");
        Sent { response, body }
    }

    pub(crate) fn to(&self, method: &str, target: &str) -> http::request::Builder {
        let uri = format!("http://{}{target}", self.address);
        Request::builder().method(method).uri(uri)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Sent {
        let request = self.to("GET", target);
        self.send(request, true)
    }

    #[track_caller]
    pub(crate) fn head_of(&self, sent: Sent) -> Response<RecvStream> {
        self.await_ok(sent.response)
    }

    #[track_caller]
    pub(crate) fn text_of(&self, response: Response<RecvStream>) -> String {
        let bytes = self.await_ok(all(response.into_body()));
        String::from_utf8(bytes).expect("a text")
    }

    #[track_caller]
    pub(crate) fn version(&mut self) -> String {
        let sent = self.get("/version");
        let response = self.head_of(sent);
        assert_eq!(response.status(), 200);
        self.text_of(response)
    }

    /// Waits until the server has ended the connection.
    #[track_caller]
    fn end(self) -> Result<(), h2::Error> {
        let Self {
            runtime,
            requests,
            connection,
            ..
        } = self;
        drop(requests);
        let ended = runtime.block_on(async { tokio::time::timeout(LONG, connection).await });
        ended.expect("in time").expect("no panic")
    }
}

pub(crate) async fn all(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        all.extend_from_slice(&part);
    }
    Ok(all)
}

#[test]
fn a_connection_outlives_handoffs_and_new_streams_go_to_the_new_release() {
    let site = Site::watching_a_pointer().start("v1");
    let mut client = Client::connect(site.address());
    assert_eq!(client.version(), "v1");
    let slow = client.to("POST", "/echo");
    let mut upload = client.send(slow, false);
    upload.body.send_data("begun ".into(), false).unwrap();
    // It has reached the instance that it is to end on.
    client.version();
    site.wait_until("the upload is in flight", |status| {
        status
            .active
            .as_ref()
            .is_some_and(|active| active.in_flight > 0)
    });
    for version in ["v2", "v3"] {
        site.deploy(version);
        site.await_active(version);
        assert_eq!(client.version(), version);
    }
    upload.body.send_data("and ended".into(), true).unwrap();
    let response = client.head_of(upload);
    assert_eq!(response.headers()["x-release"], "v1");
    assert_eq!(client.text_of(response), "begun and ended");
}

#[test]
fn many_streams_side_by_side_lose_nothing_in_three_handoffs() {
    let site = Site::watching_a_pointer().start("v1");
    let mut client = Client::connect(site.address());
    for version in ["v2", "v3", "v4"] {
        site.deploy(version);
        let mut seen = String::new();
        while seen != version {
            let sent: Vec<_> = (0..50).map(|_| client.get("/version")).collect();
            for sent in sent {
                let response = client.head_of(sent);
                assert_eq!(response.status(), 200);
                seen = client.text_of(response);
            }
        }
    }
}

#[test]
fn a_request_reaches_the_app_as_one_of_http_1() {
    let stage = Stage::new();
    let mut client = Client::connect(stage.site().address());
    let request = client
        .to("POST", "/a?b=c")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-forwarded-for", "192.0.2.9");
    let mut sent = client.send(request, false);
    sent.body.send_data("12345".into(), false).unwrap();
    client.flush();
    let mut app = stage.app();
    let head = app.head();
    assert!(head.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{head}");
    let host = client.address.to_string();
    for (name, value) in [
        ("host", &*host),
        ("cookie", "a=1; b=2"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(field(&head, name), Some(value), "{head}");
    }
    assert_eq!(app.chunk(), "12345");
    sent.body.send_data("67".into(), true).unwrap();
    client.flush();
    assert_eq!(app.chunk(), "67");
    app.send(
        "HTTP/1.1 201 Made\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
         Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 9\r\n\r\n",
    );
    let response = client.head_of(sent);
    assert_eq!(response.status(), 201);
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!response.headers().contains_key(name), "{response:?}");
    }
    let mut body = response.into_body();
    let read = async {
        let part = body.data().await.expect("a part")?;
        body.flow_control().release_capacity(part.len())?;
        while body.data().await.transpose()?.is_some() {}
        Ok::<_, h2::Error>((part, body.trailers().await?))
    };
    let (part, trailers) = client.await_ok(read);
    assert_eq!(part, "abc");
    assert_eq!(trailers.expect("trailers")["x-sum"], "9");
}

#[test]
fn a_stream_that_its_client_resets_is_cancelled_and_the_others_go_on() {
    let stage = Stage::new();
    let mut client = Client::connect(stage.site().address());
    let mut cancelled = client.get("/cancelled");
    client.flush();
    let mut app = stage.app();
    assert!(app.head().starts_with("GET /cancelled "));
    cancelled.body.send_reset(Reason::CANCEL);
    client.flush();
    app.await_end_soon();
    let sent = client.get("/next");
    client.flush();
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let response = client.head_of(sent);
    assert_eq!(client.text_of(response), "ok");
}

#[test]
fn an_incomplete_response_is_an_error_of_its_stream_alone() {
    let stage = Stage::new();
    let mut client = Client::connect(stage.site().address());
    let sent = client.get("/");
    client.flush();
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let response = client.head_of(sent);
    app.reset();
    let read = async { Ok::<_, ()>(all(response.into_body()).await) };
    let error = client.await_ok(read).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert_next_is_served(&stage, &mut client);
}

/// Asserts that another stream of the connection is served, and returns the app's connection.
pub(crate) fn assert_next_is_served(stage: &Stage, client: &mut Client) -> Wire {
    let sent = client.get("/next");
    client.flush();
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.head_of(sent).status(), 204);
    app
}

#[test]
fn a_shutdown_ends_the_connection_after_its_streams() {
    let site = Site::watching_a_pointer().start("v1");
    let mut client = Client::connect(site.address());
    let slow = client.to("POST", "/echo");
    let mut upload = client.send(slow, false);
    upload.body.send_data("a".into(), false).unwrap();
    assert_eq!(client.version(), "v1");
    site.ask_to_stop();
    site.await_log("event=\"shutdown_started\"");
    upload.body.send_data("b".into(), true).unwrap();
    let response = client.head_of(upload);
    assert_eq!(client.text_of(response), "ab");
    client.end().unwrap();
    assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
}

#[test]
fn streams_that_are_reset_rapidly_end_their_connection_and_no_other() {
    let site = Site::watching_a_pointer().start("v1");
    let mut other = Client::connect(site.address());
    let mut client = Client::connect(site.address());
    let flood = async {
        for _ in 0..5_000 {
            if poll_fn(|cx| client.requests.poll_ready(cx)).await.is_err() {
                break;
            }
            let request = Request::get(format!("http://{}/slow", client.address));
            let request = request.body(()).expect("a request");
            let Ok((_, mut body)) = client.requests.send_request(request, true) else {
                break;
            };
            // The request is sent before the reset is.
            tokio::task::yield_now().await;
            body.send_reset(Reason::CANCEL);
        }
    };
    client.runtime.block_on(flood);
    let error = client.end().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error:?}");
    assert_eq!(other.version(), "v1");
    site.await_log("event=\"http2_flooded\"");
}

#[test]
fn a_slow_body_ends_its_stream_alone() {
    let stage = Stage::with(&[("--client-timeout", "1s")]);
    let mut client = Client::connect(stage.site().address());
    let post = client.to("POST", "/");
    let mut slow = client.send(post, false);
    slow.body.send_data("half".into(), false).unwrap();
    client.flush();
    let mut app = stage.app();
    app.head();
    assert_eq!(client.head_of(slow).status(), 408);
    app.await_end_soon();
    assert_next_is_served(&stage, &mut client);
}

#[test]
fn http_2_does_not_begin_in_the_middle_of_a_connection() {
    let stage = Stage::new();
    let (mut client, _app) = stage.kept();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let head = client.answer_head();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    client.end();
}

#[test]
fn the_first_bytes_may_come_in_any_pieces() {
    let stage = Stage::new();
    let opening = opening(&[]);
    for cuts in [&[1][..], &[14], &[16], &[23], &[24], &[3, 15, 20]] {
        let mut client = stage.client();
        let mut sent = 0;
        for &cut in cuts.iter().chain([&opening.len()]) {
            client.send(&opening[sent..cut]);
            sent = cut;
            sleep_for(Duration::from_millis(50), "each arrives alone");
        }
        let head = client.bytes(9);
        assert_eq!(head[3], SETTINGS, "{cuts:?}: {head:?}");
    }
    // What only begins so is what it is.
    let mut client = stage.client_sends("P");
    sleep_for(Duration::from_millis(50), "it arrives alone");
    client.send("OST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let mut app = stage.app();
    assert!(app.head().starts_with("POST /a "));
    let mut client = stage.client_sends("PRI * HTTP/2.0\r\n\r\n");
    client.half_close();
    client.expect_refusal(400);
}

/// Returns what a server without HTTP/2 tells a client of it.
fn refusal(site: &Running) -> h2::Error {
    let mut client = Client::connect(site.address());
    let sent = client.get("/version");
    let answer = async { Ok::<_, ()>(sent.response.await) };
    client.await_ok(answer).expect_err("a refusal")
}

#[test]
fn switched_off_it_asks_for_http_1() {
    let site = Site::watching_a_pointer().with("--http2", "off");
    let site = site.start(app("v1"));
    assert_eq!(refusal(&site).reason(), Some(Reason::HTTP_1_1_REQUIRED));
    site.await_log("event=\"http2_refused\"");
    site.await_version("v1");
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no curl")]
fn curl_speaks_it_with_prior_knowledge() {
    if !has("curl") {
        return;
    }
    for protocol in ["http1", "h2c"] {
        let site = Site::watching_a_pointer().with("--app-protocol", protocol);
        let site = site.start("v1");
        let curl = |options: &[&str], target: &str| {
            let mut curl = Command::new("curl");
            curl.args(["--http2-prior-knowledge", "-sS", "--max-time", "60"]);
            curl.args(["-w", " %{http_code} %{http_version} %{num_connects}"]);
            curl.args(options);
            curl.arg(format!("http://{}{target}", site.address()));
            let ended = curl.output().expect("curl");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{said}");
            String::from_utf8(ended.stdout).expect("a text")
        };
        assert_eq!(curl(&[], "/version"), "v1 200 2 1");
        assert_eq!(curl(&["-d", "a body"], "/echo"), "a body 200 2 1");
        let upload = curl(&["-T", "-", "-H", "Expect: 100-continue"], "/echo");
        assert_eq!(upload, " 200 2 1");
        assert!(curl(&["-I"], "/version").starts_with("HTTP/2 200 \r\n"));
    }
}
