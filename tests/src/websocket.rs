//! As much of a WebSocket (RFC 6455) as it takes to see a tunnel work.

use std::io;

use crate::client::Connection;

const TEXT: u8 = 0x1;
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
    pub fn open(mut connection: Connection) -> (Self, String) {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        // The key is the example of RFC 6455, section 1.3.
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        connection.send("GET", "/ws", &format!("{upgrade}{key}"));
        let head = connection.head().expect("an answer to the upgrade");
        assert_eq!(head.status, 101, "{head:?}");
        (Self(connection), head.release().to_owned())
    }

    /// Sends a short text and reads what comes back.
    ///
    /// # Errors
    /// When the tunnel has ended.
    pub fn echo(&mut self, text: &str) -> io::Result<String> {
        let length = u8::try_from(text.len()).ok().filter(|&length| length < 126);
        let length = length.expect("a text of less than 126 bytes");
        let masked = text.bytes().zip(MASK.iter().cycle());
        let mut frame = vec![0x80 | TEXT, 0x80 | length];
        frame.extend(MASK);
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.0.try_write(&frame)?;
        let head = self.0.bytes(2)?;
        let payload = self.0.bytes(usize::from(head[1]))?;
        String::from_utf8(payload).map_err(io::Error::other)
    }
}
