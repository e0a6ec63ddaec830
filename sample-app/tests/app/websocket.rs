//! WebSocket echo, frame by frame.

use crate::client::Connection;
use crate::running::start;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

fn open(address: std::net::SocketAddr) -> Connection {
    let mut connection = Connection::open(address);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    // The key and its answer are the example of RFC 6455, section 1.3.
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    connection.send("GET", "/ws", &format!("{upgrade}{key}"));
    let head = connection.head().expect("an answer");
    assert_eq!(head.status, 101);
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(head.header("x-release"), Some("v1"));
    connection
}

fn send(connection: &mut Connection, opcode: u8, payload: &[u8]) {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    assert!(payload.len() < 126, "longer ones have another length field");
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8];
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    connection.write(&frame);
}

fn receive(connection: &mut Connection) -> (u8, Vec<u8>) {
    let head = connection.bytes(2).expect("a frame");
    assert_eq!(head[0] & 0x80, 0x80, "a whole message");
    (
        head[0] & 0x0f,
        connection.bytes(usize::from(head[1])).expect("a payload"),
    )
}

#[test]
fn messages_come_back() {
    let (_app, address) = start(&[]);
    let mut socket = open(address);

    send(&mut socket, TEXT, b"hello");
    assert_eq!(receive(&mut socket), (TEXT, b"hello".to_vec()));
    send(&mut socket, BINARY, b"\x00\xff");
    assert_eq!(receive(&mut socket), (BINARY, b"\x00\xff".to_vec()));
    send(&mut socket, PING, b"there?");
    assert_eq!(receive(&mut socket), (PONG, b"there?".to_vec()));
}

#[test]
fn a_close_is_answered_and_ends_the_connection() {
    let (_app, address) = start(&[]);
    let mut socket = open(address);

    send(&mut socket, CLOSE, &1000_u16.to_be_bytes());

    assert_eq!(
        receive(&mut socket),
        (CLOSE, 1000_u16.to_be_bytes().to_vec())
    );
    assert_eq!(socket.rest().unwrap(), b"");
}

#[cfg(unix)]
#[test]
fn stopping_says_goodbye() {
    use rustix::process::Signal;

    let (mut app, address) = start(&[]);
    let mut socket = open(address);
    send(&mut socket, TEXT, b"hello");
    assert_eq!(receive(&mut socket), (TEXT, b"hello".to_vec()));

    app.signal(Signal::TERM);

    let (opcode, payload) = receive(&mut socket);
    assert_eq!(
        (opcode, &payload[..2]),
        (CLOSE, &1001_u16.to_be_bytes()[..])
    );
    send(&mut socket, CLOSE, &1001_u16.to_be_bytes());
    assert_eq!(app.exit_status().code(), Some(0));
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

    assert_eq!(app.exit_status().code(), Some(0));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(1), "left after {waited:?}");
}
