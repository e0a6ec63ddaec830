//! Heads and trailers of HTTP/2 (RFC 7541): written without a table, and read by a library, which sees each as
//! the first of a connection. So whoever sends them has to be told to keep no table.

use std::fmt::Write as _;
use std::io;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{RecvStream, client, server};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::frames::{END_HEADERS, END_STREAM, HEADERS, POST, PREFACE, frame, opening};

/// Setting with which an end is told to keep no table.
pub const NO_TABLE: (u16, u32) = (1, 0);
/// A setting with which streams have no room for a body (`SETTINGS_INITIAL_WINDOW_SIZE`).
pub const NO_WINDOW: (u16, u32) = (4, 0);
/// More than one head.
const ROOM: usize = 1 << 20;

/// Returns these fields as they are sent.
///
/// # Panics
/// Panics if one has more than 126 bytes.
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a short text");
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Returns the fields of a request, each in a line: those of its first line in HTTP/1, then the others in
/// the order of their names.
///
/// # Panics
/// Panics if it is none.
pub fn decode_request(block: &[u8]) -> String {
    let (request, ..) = wait(receive_request(block));
    let uri = request.uri();
    let mut text = format!(":method {}\n", request.method());
    for (name, value) in [
        (":scheme", uri.scheme_str()),
        (":authority", uri.authority().map(Authority::as_str)),
        (":path", uri.path_and_query().map(PathAndQuery::as_str)),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    text + &lines(request.headers())
}

/// Returns the fields of a response, as [`decode_request`] does.
///
/// # Panics
/// Panics if it is none.
pub fn decode_response(block: &[u8]) -> String {
    let settings = &opening(&[])[PREFACE.len()..];
    let bytes = [settings, &frame(HEADERS, END_HEADERS, 1, block)].concat();
    let response = wait(async {
        let (mut server, client) = duplex(ROOM);
        let connected = client::handshake(client).await;
        let (mut requests, connection) = connected.expect("a client");
        tokio::spawn(connection);
        let request = Request::get("http://a/").body(()).expect("a request");
        let sent = requests.send_request(request, true);
        let (response, _) = sent.expect("it is sent");
        // A response to nothing would be malformed.
        await_head(&mut server).await.expect("a request");
        server.write_all(&bytes).await.expect("room");
        response.await.expect("a response")
    });
    let status = response.status().as_u16();
    format!(":status {status}\n{}", lines(response.headers()))
}

/// Returns the fields of trailers, as [`decode_request`] does.
///
/// # Panics
/// Panics if they are none.
pub fn decode_trailers(block: &[u8]) -> String {
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let trailers = wait(async {
        let (request, _respond, mut connection, mut client) = receive_request(POST).await;
        client.write_all(&trailers).await.expect("room");
        tokio::spawn(async move { connection.accept().await.is_none() });
        let mut body = request.into_body();
        assert!(body.data().await.is_none());
        body.trailers().await.expect("no error")
    });
    lines(&trailers.expect("trailers"))
}

/// Receives a request that this head begins.
async fn receive_request(
    block: &[u8],
) -> (
    Request<RecvStream>,
    SendResponse<Bytes>,
    Connection<DuplexStream, Bytes>,
    DuplexStream,
) {
    let (mut client, server) = duplex(ROOM);
    let bytes = [opening(&[]), frame(HEADERS, END_HEADERS, 1, block)].concat();
    client.write_all(&bytes).await.expect("room");
    let connection = server::handshake(server).await;
    let mut connection = connection.expect("a connection");
    let accepted = connection.accept().await.expect("a request");
    let (request, respond) = accepted.expect("no error");
    (request, respond, connection, client)
}

/// Reads up to the first head.
async fn await_head(client: &mut DuplexStream) -> io::Result<()> {
    client.read_exact(&mut [0; PREFACE.len()]).await?;
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await?;
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.read_exact(&mut payload).await?;
        if kind == HEADERS {
            return Ok(());
        }
    }
}

fn lines(fields: &HeaderMap) -> String {
    let lines = fields.iter().map(|(name, value)| {
        let value = value.to_str().expect("a text");
        format!("{name}: {value}\n")
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.concat()
}

fn wait<T>(wanted: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(wanted)
}
