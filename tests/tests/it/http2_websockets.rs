//! WebSockets on streams of HTTP/2 (extended CONNECT, RFC 8441).

use std::time::Duration;

use h2::ext::Protocol;
use tests::stage::{Stage, field};
use tests::wait::sleep_for;

use crate::http2::{Client, Sent, assert_next_is_served};

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
