//! Frames of HTTP/2 (RFC 9113, section 6), and a client that reads no more of them than their heads.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flag of the last frame of a stream; of an acknowledgement.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
/// Flag of the last frame of a head.
pub const END_HEADERS: u8 = 4;

/// The first bytes of a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Fields of `GET / HTTP/1.1` with `Host: a`, without an entry in the table of the connection.
pub const GET: &[u8] = b"\x82\x84\x86\x01\x01a";
/// The same of a `POST`.
pub const POST: &[u8] = b"\x83\x84\x86\x01\x01a";

/// Maximum time for what has to arrive.
const LONG: Duration = Duration::from_secs(30);

/// A client that sees frames.
#[derive(Debug)]
pub struct FrameClient {
    stream: TcpStream,
    next_stream: u32,
}

/// A frame that has been received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Returns a frame.
///
/// # Panics
/// Panics if the payload does not fit.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload that fits");
    assert!(length < 1 << 24, "a payload that fits");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Returns the first bytes of a connection, with these settings.
pub fn opening(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

// === impl FrameClient ===

impl FrameClient {
    /// Connects, and sends the first bytes.
    ///
    /// # Errors
    /// Returns an error if there is no connection.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        let mut client = Self {
            stream,
            next_stream: 1,
        };
        client.send(&opening(&[]))?;
        Ok(client)
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// Returns an error if they are not taken.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives the next frame.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn receive(&mut self) -> io::Result<Received> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Received {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// Receives frames up to one of this kind.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn receive_until(&mut self, kind: u8) -> io::Result<Received> {
        loop {
            let received = self.receive()?;
            if received.kind == kind {
                return Ok(received);
            }
        }
    }

    /// Sends a `GET` for a path, and receives its answer to the end; acknowledges settings on the way.
    ///
    /// # Errors
    /// Returns an error if there is no whole answer.
    ///
    /// # Panics
    /// Panics if the path is long.
    pub fn get(&mut self, path: &str) -> io::Result<()> {
        let length = u8::try_from(path.len()).expect("a short path");
        let target = [&[0x04, length], path.as_bytes()].concat();
        let fields = [&b"\x82\x86\x01\x01a"[..], &target].concat();
        let stream = self.next_stream;
        self.next_stream += 2;
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields))?;
        let mut length = 0;
        loop {
            let got = self.receive()?;
            match got.kind {
                SETTINGS if got.flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, b""))?,
                GOAWAY | RST_STREAM => return Err(io::Error::other(format!("{got:?}"))),
                DATA => length += got.payload.len(),
                _ => {}
            }
            let is_of_it = got.stream == stream && matches!(got.kind, DATA | HEADERS);
            if is_of_it && got.flags & END_STREAM != 0 {
                if let Ok(length @ 1..) = u32::try_from(length) {
                    self.send(&frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes()))?;
                }
                return Ok(());
            }
        }
    }
}
