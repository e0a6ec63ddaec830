//! WebSockets whose handshake is seen byte by byte; the frames are tungstenite's.

use std::io;
use std::net::TcpStream;

use tungstenite::protocol::Role;
pub use tungstenite::protocol::frame::CloseFrame;
pub use tungstenite::{Error, Message};

use crate::client::{Answer, Connection};

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket(tungstenite::WebSocket<TcpStream>);

impl WebSocket {
    /// Upgrades a connection, and returns the release that did.
    pub fn open(connection: Connection) -> (Self, String) {
        let (socket, head) = Self::open_at(connection, "/ws", "app");
        (socket, head.release().to_owned())
    }

    /// Upgrades a connection for a target at a host, and returns the head of the answer.
    pub fn open_at(mut connection: Connection, target: &str, host: &str) -> (Self, Answer) {
        let start = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n");
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        // The key is the example of RFC 6455, section 1.3.
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        connection.write(format!("{start}{upgrade}{key}").as_bytes());
        let head = connection.head().expect("an answer to the upgrade");
        assert_eq!(head.status, 101, "{head:?}");
        let (stream, ahead) = connection.into_parts();
        let socket = tungstenite::WebSocket::from_partially_read(stream, ahead, Role::Client, None);
        (Self(socket), head)
    }

    /// Sends a text and reads what comes back.
    pub fn echo(&mut self, text: &str) -> io::Result<String> {
        self.send(Message::text(text))?;
        self.receive_text()
    }

    /// Sends a message.
    pub fn send(&mut self, message: Message) -> io::Result<()> {
        self.0.send(message).map_err(io::Error::other)
    }

    /// Reads a message. A close is one, and answered with the next call.
    pub fn receive(&mut self) -> io::Result<Message> {
        self.0.read().map_err(io::Error::other)
    }

    /// Asserts that both ends have closed it, and nothing more comes.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let end = self.0.read();
        assert!(matches!(end, Err(Error::ConnectionClosed)), "{end:?}");
    }

    /// Reads a text.
    pub fn receive_text(&mut self) -> io::Result<String> {
        let text = self.receive()?.into_text().map_err(io::Error::other)?;
        Ok(text.to_string())
    }
}
