//! As much of a WebSocket (RFC 6455) as it takes to see a tunnel work.

use std::io;

use crate::client::Connection;

const TEXT: u8 = 0x1;
const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Any will do: it is there for broken intermediaries, and the tests' messages are never secret.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket(Connection);

impl WebSocket {
    /// Upgrades a connection; gives the release that did.
    ///
    /// # Panics
    /// When it is not upgraded.
    pub fn open(connection: Connection) -> (Self, String) {
        Self::open_at(connection, "/ws", "app")
    }

    /// The same for another target, at another host.
    ///
    /// # Panics
    /// When it is not upgraded.
    pub fn open_at(mut connection: Connection, target: &str, host: &str) -> (Self, String) {
        let start = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n");
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        // The key is the example of RFC 6455, section 1.3.
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        connection.write(format!("{start}{upgrade}{key}").as_bytes());
        let head = connection.head().expect("an answer to the upgrade");
        assert_eq!(head.status, 101, "{head:?}");
        (Self(connection), head.release().to_owned())
    }

    /// Sends a text and reads what comes back.
    ///
    /// # Errors
    /// When the tunnel has ended.
    pub fn echo(&mut self, text: &str) -> io::Result<String> {
        self.send(text)?;
        self.receive()
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the tunnel has ended.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        let mut frame = vec![LAST | TEXT];
        match (u8::try_from(text.len()), u16::try_from(text.len())) {
            (Ok(length @ ..126), _) => frame.push(MASKED | length),
            (_, Ok(length)) => {
                frame.push(MASKED | 126);
                frame.extend(length.to_be_bytes());
            }
            (_, Err(_)) => {
                frame.push(MASKED | 127);
                frame.extend((text.len() as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        let masked = text.bytes().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.0.try_write(&frame)
    }

    /// Reads a text, whatever it is sent in.
    ///
    /// # Errors
    /// When the tunnel has ended.
    pub fn receive(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        loop {
            let head = self.0.bytes(2)?;
            let length = match head[1] {
                126 => u64::from(u16::from_be_bytes(self.array()?)),
                127 => u64::from_be_bytes(self.array()?),
                length => u64::from(length),
            };
            let length = usize::try_from(length).map_err(io::Error::other)?;
            text.extend(self.0.bytes(length)?);
            if head[0] & LAST != 0 {
                return String::from_utf8(text).map_err(io::Error::other);
            }
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.0.bytes(N)?;
        bytes
            .try_into()
            .map_err(|_| io::Error::other("too few bytes"))
    }
}
