//! Frames of HTTP/2 (RFC 9113, section 6), and an end of a connection that sends and receives them.

use std::collections::HashMap;
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

/// Time without room to send after which there will be none.
const FULL: Duration = Duration::from_secs(1);
/// The setting of the room that a stream begins with, and its value without one.
const INITIAL_WINDOW: u16 = 4;
const DEFAULT_WINDOW: i64 = 65_535;

/// One end of a connection, frame by frame.
#[derive(Debug)]
pub struct FrameWire {
    stream: TcpStream,
    next_stream: u32,
    /// Number of bytes that a new stream may send, and those that each may still send: stream 0 is all
    /// of the connection.
    initial_window: i64,
    windows: HashMap<u32, i64>,
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

// === impl FrameWire ===

impl FrameWire {
    /// Connects, and sends the first bytes.
    ///
    /// # Errors
    /// Returns an error if there is no connection.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, &[])
    }

    /// Connects, and sends the first bytes with these settings.
    ///
    /// # Errors
    /// Returns an error if there is no connection.
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut client = Self::new(TcpStream::connect(address)?)?;
        client.send(&opening(settings))?;
        Ok(client)
    }

    /// Serves a client, once its first bytes have arrived, with these settings.
    ///
    /// # Errors
    /// Returns an error if other bytes come.
    pub fn accept(stream: TcpStream, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut server = Self::new(stream)?;
        let mut preface = [0; PREFACE.len()];
        server.stream.read_exact(&mut preface)?;
        if preface != PREFACE {
            return Err(io::Error::other(format!("it begins with {preface:?}")));
        }
        server.send(&opening(settings)[PREFACE.len()..])?;
        Ok(server)
    }

    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        Ok(Self {
            stream,
            next_stream: 1,
            initial_window: DEFAULT_WINDOW,
            windows: HashMap::from([(0, DEFAULT_WINDOW)]),
        })
    }

    /// Returns the number of a client's next stream.
    pub fn next_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
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

    /// Receives the next frame that is not about the connection alone: settings and pings are answered, and
    /// room to send is added up.
    ///
    /// # Errors
    /// Returns an error if there is none, or a GOAWAY.
    pub fn receive_of_stream(&mut self) -> io::Result<Received> {
        loop {
            let got = self.receive()?;
            let is_ack = got.flags & ACK != 0;
            match got.kind {
                SETTINGS | PING if is_ack => {}
                SETTINGS => {
                    self.apply(&got.payload);
                    self.send(&frame(SETTINGS, ACK, 0, b""))?;
                }
                PING => self.send(&frame(PING, ACK, 0, &got.payload))?,
                WINDOW_UPDATE => {
                    let more = <[u8; 4]>::try_from(&*got.payload).map_err(io::Error::other)?;
                    *self.window(got.stream) += i64::from(u32::from_be_bytes(more));
                }
                GOAWAY => return Err(io::Error::other(format!("{got:?}"))),
                _ => return Ok(got),
            }
        }
    }

    /// Sends zeros on a stream until there is no more room for a while, and returns their number.
    ///
    /// # Errors
    /// Returns an error if something else comes than room, or too much room.
    pub fn send_until_full(&mut self, stream: u32, most: usize) -> io::Result<usize> {
        const PART: i64 = 16 * 1024;
        let mut sent = 0;
        self.stream.set_read_timeout(Some(FULL))?;
        loop {
            let room = (*self.window(0)).min(*self.window(stream)).min(PART);
            if let Ok(length @ 1..) = usize::try_from(room) {
                self.send(&frame(DATA, 0, stream, &vec![0; length]))?;
                *self.window(0) -= room;
                *self.window(stream) -= room;
                sent += length;
                if sent > most {
                    return Err(io::Error::other(format!("{sent} bytes are taken")));
                }
                continue;
            }
            match self.receive_of_stream() {
                Err(error) if is_timeout(&error) => break,
                // The other end sends, too: no more than there has been room for.
                Ok(got) if got.kind == DATA => {}
                got => return Err(io::Error::other(format!("{got:?}"))),
            }
        }
        self.stream.set_read_timeout(Some(LONG))?;
        Ok(sent)
    }

    fn apply(&mut self, settings: &[u8]) {
        for setting in settings.as_chunks::<6>().0 {
            let [a, b, value @ ..] = *setting;
            if u16::from_be_bytes([a, b]) == INITIAL_WINDOW {
                let new = i64::from(u32::from_be_bytes(value));
                let more = new - std::mem::replace(&mut self.initial_window, new);
                let streams = self.windows.iter_mut().filter(|(stream, _)| **stream > 0);
                streams.for_each(|(_, window)| *window += more);
            }
        }
    }

    fn window(&mut self, stream: u32) -> &mut i64 {
        self.windows.entry(stream).or_insert(self.initial_window)
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
        let stream = self.next_stream();
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

/// Returns `true` if nothing has come, or could be sent, in time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
