//! WebSockets on streams of HTTP/2 (extended CONNECT, RFC 8441), of clients and to apps.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use tests::Site;
use tests::http2::frames::{END_HEADERS, FrameWire, HEADERS, frame};
use tests::http2::heads::{NO_TABLE, NO_WINDOW, encode};
use tests::stage::{End, Stage, field};
use tests::wait::sleep_for;
use tests::websocket::{Message, WebSocket};
use tungstenite::protocol::Role;

use crate::http2::{Client, Sent, all, assert_next_is_served};
use crate::http2_app::{App, AppRequest, ok};

/// A request to upgrade, with the key of the example of RFC 6455, section 1.3.
const UPGRADE: &str = "GET /chat?a=b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
     Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: p, q\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An open stream as a transport that blocks.
struct Transport {
    client: Client,
    sending: SendStream<Bytes>,
    body: RecvStream,
    received: Bytes,
}

// === impl Transport ===

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.received.is_empty() {
            let body = &mut self.body;
            let next = self
                .client
                .await_ok(async { body.data().await.transpose() });
            let Some(data) = next else {
                return Ok(0);
            };
            let released = body.flow_control().release_capacity(data.len());
            released.map_err(io::Error::other)?;
            self.received = data;
        }
        let length = self.received.len().min(buffer.len());
        self.received.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = Bytes::copy_from_slice(bytes);
        let length = bytes.len();
        let sent = self.sending.send_data(bytes, false);
        sent.map_err(io::Error::other)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.client.flush();
        Ok(())
    }
}

/// A handoff whose app takes WebSockets over HTTP/2.
#[track_caller]
fn app_with(options: &[(&str, &str)]) -> App {
    let app = App::launching(options, true);
    app.takes_websockets.store(true, Ordering::SeqCst);
    app.await_active();
    app
}

/// Opens the WebSocket that the app has been asked for.
#[track_caller]
fn open(mut request: AppRequest) -> (SendStream<Bytes>, RecvStream) {
    let head = Response::builder().header("sec-websocket-protocol", "q");
    let head = head.body(()).expect("a head");
    let to_client = request.respond.send_response(head, false);
    let to_client = to_client.expect("a head is sent");
    (to_client, request.request.into_body())
}

#[track_caller]
fn part(app: &App, body: &mut RecvStream) -> Bytes {
    let part = app.wait(body.data());
    part.expect("a part").expect("no error")
}

/// Requests a WebSocket on a stream (RFC 8441).
#[track_caller]
fn connect(client: &mut Client, protocol: &'static str) -> Sent {
    let connect = client.to("CONNECT", "/chat");
    let connect = connect.extension(Protocol::from_static(protocol));
    let sent = client.send(connect.header("sec-websocket-version", "13"), false);
    client.flush();
    sent
}

#[test]
fn a_websocket_on_a_stream_reaches_the_app_as_an_upgrade() {
    let stage = Stage::with(&[("--idle-timeout", "1s")]);
    let mut client = Client::connect(stage.site().address());
    let mut app = assert_next_is_served(&stage, &mut client);
    let mut sent = connect(&mut client, "websocket");
    let head = app.head();
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
    assert_eq!(field(&head, "connection"), Some("upgrade"), "{head}");
    let key = field(&head, "sec-websocket-key");
    assert_eq!(key.map(str::len), Some(24), "{head}");
    app.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: y\r\nSec-WebSocket-Protocol: p\r\n\r\n",
    );
    let response = client.await_ok(sent.response);
    assert_eq!(response.status(), 200);
    let names: Vec<_> = response
        .headers()
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["sec-websocket-protocol", "date"], "{response:?}");
    let mut body = response.into_body();
    sleep_for(Duration::from_secs(3), "it is open and idle");
    for word in ["one", "two"] {
        sent.body.send_data(word.into(), false).unwrap();
        client.flush();
        assert_eq!(app.receive(3), word);
        app.send("ok");
        let part = client.await_ok(async { body.data().await.expect("a part") });
        assert_eq!(part, "ok");
    }
    // Others go on beside it.
    assert_next_is_served(&stage, &mut client);
    sent.body.send_data(Default::default(), true).unwrap();
    client.flush();
    app.end();
}

#[test]
fn a_websocket_on_a_stream_may_send_much() {
    const LENGTH: usize = 5 * 1024 * 1024;
    let stage = Stage::new();
    let mut client = Client::connect(stage.site().address());
    let mut app = assert_next_is_served(&stage, &mut client);
    let mut sent = connect(&mut client, "websocket");
    app.head();
    app.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let mut body = client.await_ok(sent.response).into_body();
    // One binary message.
    let mut message = vec![0; LENGTH];
    message[..2].copy_from_slice(&[0x82, 127]);
    message[2..10].copy_from_slice(&(LENGTH as u64 - 10).to_be_bytes());
    sent.body.send_data(message.into(), false).unwrap();
    let app = std::thread::spawn(move || {
        app.bytes(LENGTH);
        app.send("ok");
        app
    });
    let part = client.await_ok(async { body.data().await.expect("a part") });
    assert_eq!(part, "ok");
    let _app = app.join().unwrap();
    // The connection has not ended as that of a client that asks for too much.
    assert_next_is_served(&stage, &mut client);
}

#[test]
fn a_websocket_on_a_stream_ends_with_a_client_that_takes_nothing() {
    let stage = Stage::with(&[("--client-timeout", "1s")]);
    let address = stage.site().address();
    let client = FrameWire::connect_with(address, &[NO_TABLE, NO_WINDOW]);
    let mut client = client.expect("a connection");
    let head = encode(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ]);
    let sent = client.send(&frame(HEADERS, END_HEADERS, 1, &head));
    sent.expect("it is sent");
    let mut app = stage.app();
    app.head();
    app.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    app.send([0; 64 * 1024]);
    app.await_end_soon();
}

#[test]
fn a_websocket_on_a_stream_is_closed_with_its_release_and_its_connection_goes_on() {
    let stage = Stage::with(&[("--tunnel-drain-timeout", "1s")]);
    let mut client = Client::connect(stage.site().address());
    let mut app = assert_next_is_served(&stage, &mut client);
    let sent = connect(&mut client, "websocket");
    app.head();
    app.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let mut body = client.await_ok(sent.response).into_body();
    stage.swap();
    let part = client.await_ok(async { body.data().await.expect("a close frame") });
    assert_eq!(&part[..], [0x88, 2, 0x03, 0xe9]);
    assert_next_is_served(&stage, &mut client);
}

#[test]
fn what_is_no_websocket_is_none_on_a_stream_either() {
    let stage = Stage::new();
    let mut client = Client::connect(stage.site().address());
    let mut app = assert_next_is_served(&stage, &mut client);
    let sent = connect(&mut client, "connect-udp");
    assert_eq!(client.await_ok(sent.response).status(), 501);
    // An app that knows none has answered the request.
    let sent = connect(&mut client, "websocket");
    app.head();
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.await_ok(sent.response).status(), 502);
    let sent = connect(&mut client, "websocket");
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let response = client.await_ok(sent.response);
    assert_eq!(response.status(), 403);
    assert_eq!(client.text_of(response), "no");
}

#[test]
fn an_app_that_speaks_http_2_has_websockets_with_clients_of_both_versions() {
    let site = Site::watching_a_pointer().with("--app-protocol", "h2c");
    let site = site
        .with("--tunnel-drain-timeout", "1s")
        .with("--live-path", "/health")
        .start("v1");
    let (mut old, release) = WebSocket::open(site.connect());
    assert_eq!(release, "v1");
    let mut client = Client::connect(site.address());
    let request = client.to("CONNECT", "/ws");
    let request = request.extension(Protocol::from_static("websocket"));
    let sent = client.send(request.header("sec-websocket-version", "13"), false);
    let response = client.await_ok(sent.response);
    assert_eq!(response.status(), 200);
    let mut socket = tungstenite::WebSocket::from_raw_socket(
        Transport {
            client,
            sending: sent.body,
            body: response.into_body(),
            received: Bytes::new(),
        },
        Role::Client,
        None,
    );
    // The last is larger than every window.
    for text in ["one".to_owned(), "x".repeat(70_000), "y".repeat(1 << 20)] {
        assert_eq!(old.echo(&text).unwrap(), text);
    }
    for text in ["one".to_owned(), "x".repeat(60_000)] {
        socket.send(Message::text(&*text)).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(text));
    }
    site.deploy("v2");
    site.await_version("v2");
    for closed in [old.receive().unwrap(), socket.read().unwrap()] {
        let Message::Close(Some(close)) = closed else {
            panic!("expected a close frame, not {closed:?}");
        };
        assert_eq!(u16::from(close.code), 1001);
    }
    let (mut next, release) = WebSocket::open(site.connect());
    assert_eq!(
        (next.echo("on").unwrap(), release),
        ("on".into(), "v2".into())
    );
}

#[test]
fn a_request_to_upgrade_becomes_a_connect_and_its_answer_switches_protocols() {
    let app = app_with(&[("--forwarded", "auto")]);
    let mut client = app.stage.client_sends(UPGRADE);
    let asked = app.request();
    let request = &asked.request;
    assert_eq!(request.method(), "CONNECT");
    assert_eq!(request.uri(), "http://a/chat?a=b");
    let protocol = request.extensions().get::<Protocol>();
    assert_eq!(protocol.map(Protocol::as_str), Some("websocket"));
    let headers = request.headers();
    assert_eq!(headers["sec-websocket-version"], "13");
    assert_eq!(headers["sec-websocket-protocol"], "p, q");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    for name in ["host", "connection", "upgrade", "sec-websocket-key"] {
        assert!(!headers.contains_key(name), "{headers:?}");
    }
    let (mut to_client, mut from_client) = open(asked);
    assert_eq!(
        client.answer_head(),
        "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-protocol: q\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nupgrade: websocket\r\n\
         connection: upgrade\r\n\r\n"
    );
    client.send("ping");
    assert_eq!(part(&app, &mut from_client), "ping");
    to_client.send_data("pong".into(), false).unwrap();
    client.expect("pong");
    // Both ends close, each when it likes.
    client.half_close();
    assert_eq!(app.wait(all(from_client)).expect("a whole body"), b"");
    to_client.send_data("bye".into(), true).unwrap();
    client.expect("bye");
    assert_eq!(client.end(), End::Closed);
}

#[test]
fn either_end_of_a_websocket_sees_that_the_other_one_has_broken_off() {
    let app = app_with(&[]);
    let mut client = app.stage.client_sends(UPGRADE);
    let (mut to_client, _from_client) = open(app.request());
    client.answer_head();
    to_client.send_reset(Reason::INTERNAL_ERROR);
    assert_eq!(client.end(), End::Reset);
    let mut client = app.stage.client_sends(UPGRADE);
    let (mut to_client, _from_client) = open(app.request());
    client.answer_head();
    client.reset();
    let reset = app.wait(poll_fn(|cx| to_client.poll_reset(cx)));
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
}

#[test]
fn an_app_that_refuses_a_websocket_over_http_2_has_answered() {
    let app = app_with(&[]);
    let mut client = app.stage.client_sends(UPGRADE);
    let AppRequest {
        request,
        mut respond,
        ..
    } = app.request();
    let head = Response::builder().status(403).header("content-length", 2);
    let mut body = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    body.send_data("no".into(), true).unwrap();
    client.expect_answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n", "no");
    let sent = app.wait(all(request.into_body()));
    assert_eq!(sent.expect("a whole body"), b"");
    // A stream that the app did nothing for is asked for again.
    let mut client = app.client();
    let sent = connect(&mut client, "websocket");
    let mut refused = app.request();
    refused.respond.send_reset(Reason::REFUSED_STREAM);
    let _open = open(app.request());
    assert_eq!(client.await_ok(sent.response).status(), 200);
}

#[test]
fn an_app_that_has_announced_no_websockets_over_http_2_is_not_asked_for_one() {
    let app = App::new();
    // Neither on a new connection nor on one that has answered.
    for _ in 0..2 {
        let mut client = app.stage.client_sends(UPGRADE);
        client.expect_refusal(501);
        let mut client = app.client();
        let sent = connect(&mut client, "websocket");
        assert_eq!(client.await_ok(sent.response).status(), 501);
        let sent = client.get("/");
        client.flush();
        let mut request = app.request();
        assert_eq!(request.request.method(), "GET");
        request.respond.send_response(ok(), true).unwrap();
        assert_eq!(client.head_of(sent).status(), 200);
    }
    app.stage
        .site()
        .await_log("SETTINGS_ENABLE_CONNECT_PROTOCOL");
    // Another upgrade is ignored, as it may be.
    let other = UPGRADE.replace("WebSocket\r", "other\r");
    let mut client = app.stage.client_sends(other);
    let mut request = app.request();
    assert_eq!(request.request.method(), "GET");
    request.respond.send_response(ok(), true).unwrap();
    client.expect_refusal(200);
}
