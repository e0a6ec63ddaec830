//! WebSocket echo, message by message.

use std::net::SocketAddr;

use tests::websocket::{CloseFrame, Message, WebSocket};

use super::running::{connect, start};

fn open(address: SocketAddr) -> WebSocket {
    let (socket, head) = WebSocket::open_at(connect(address), "/ws", "app");
    // The answer to the key is the example of RFC 6455, section 1.3.
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(head.header("x-release"), Some("v1"));
    socket
}

fn close(code: u16) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.into(),
        reason: "".into(),
    }))
}

/// Asserts that the app closes with this code, and answers it.
#[cfg(unix)]
#[track_caller]
fn expect_close(socket: &mut WebSocket, code: u16) {
    let message = socket.receive().expect("a message");
    let Message::Close(Some(frame)) = message else {
        panic!("a close, not {message:?}");
    };
    assert_eq!(u16::from(frame.code), code);
}

#[test]
fn messages_come_back() {
    let (_app, address) = start(&[]);
    let mut socket = open(address);

    assert_eq!(socket.echo("hello").unwrap(), "hello");
    let binary = Message::binary(&b"\x00\xff"[..]);
    socket.send(binary.clone()).unwrap();
    assert_eq!(socket.receive().unwrap(), binary);
    socket.send(Message::Ping("there?".into())).unwrap();
    assert_eq!(socket.receive().unwrap(), Message::Pong("there?".into()));
}

#[test]
fn a_close_is_answered_and_ends_the_connection() {
    let (_app, address) = start(&[]);
    let mut socket = open(address);

    socket.send(close(1000)).unwrap();

    assert_eq!(socket.receive().unwrap(), close(1000));
    socket.assert_closed();
}

#[cfg(unix)]
#[test]
fn stopping_says_goodbye() {
    use rustix::process::Signal;

    let (mut app, address) = start(&[]);
    let mut socket = open(address);
    assert_eq!(socket.echo("hello").unwrap(), "hello");

    app.signal(Signal::TERM);

    expect_close(&mut socket, 1001);
    socket.assert_closed();
    assert_eq!(app.await_exit().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_peer_that_does_not_answer_the_goodbye_is_left_after_a_second() {
    use std::time::{Duration, Instant};

    use rustix::process::Signal;

    let (mut app, address) = start(&[]);
    let _socket = open(address);

    let begin = Instant::now();
    app.signal(Signal::TERM);

    assert_eq!(app.await_exit().code(), Some(0));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(1), "left after {waited:?}");
}
