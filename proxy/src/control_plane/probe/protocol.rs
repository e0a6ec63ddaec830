//! Protocols other than HTTP/1.1 that an app may speak on its port.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::router::AppProtocol;

/// Maximum time for the answer to one question.
const TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2's connection preface with an empty SETTINGS frame (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Length of the header of an HTTP/2 frame.
const FRAME_HEADER: usize = 9;

/// A protocol that is not HTTP/1.1 in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherProtocol {
    /// TLS, with HTTPS or anything else in it.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
}

impl OtherProtocol {
    /// Returns the action that lets handoff and the app understand each other.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Tls => "switch that off there, as handoff is the only client",
            Self::Http2 => "run handoff with --app-protocol h2c",
        }
    }
}

impl fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS (https)",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// Asks in other protocols, one after the other, and returns the one that is spoken there.
pub(super) async fn recognise(address: SocketAddr) -> Option<OtherProtocol> {
    let answer: [u8; 3] = ask(address, &client_hello()).await.unwrap_or_default();
    // A handshake or an alert, and the version that all TLS records carry (RFC 8446, section 5.1).
    if matches!(answer, [0x15 | 0x16, 3, 0..=4]) {
        return Some(OtherProtocol::Tls);
    }
    let protocol = spoken_at(address).await;
    (protocol == AppProtocol::Http2).then_some(OtherProtocol::Http2)
}

/// Returns HTTP/2 if the app speaks it, alone or beside HTTP/1.1.
pub(super) async fn spoken_at(address: SocketAddr) -> AppProtocol {
    let answer: [u8; FRAME_HEADER] = ask(address, HTTP2_PREFACE).await.unwrap_or_default();
    match answer {
        // The server's first frame is SETTINGS, of stream 0.
        [0, _, _, 4, _, 0, 0, 0, 0] => AppProtocol::Http2,
        _ => AppProtocol::Http1,
    }
}

/// Sends a question and returns the first bytes of the answer.
async fn ask<const N: usize>(address: SocketAddr, question: &[u8]) -> Option<[u8; N]> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(question).await.ok()?;
        let mut answer = [0; N];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    };
    timeout(TIMEOUT, asking).await.ok().flatten()
}

/// Returns a TLS 1.2 ClientHello (RFC 5246, section 7.4.1.2) that common servers answer; the others
/// send an alert.
fn client_hello() -> Vec<u8> {
    const SUITES: [u16; 8] = [
        0xc02b, 0xc02f, 0xc02c, 0xc030, 0xc013, 0xc014, 0x009c, 0x002f,
    ];
    /// Groups x25519 and secp256r1, uncompressed points, and common signatures.
    const EXTENSIONS: &[u8] = b"\0\x0a\0\x06\0\x04\0\x1d\0\x17\
        \0\x0b\0\x02\x01\0\
        \0\x0d\0\x0e\0\x0c\x04\x03\x08\x04\x04\x01\x05\x03\x08\x05\x05\x01";
    let mut body = vec![3, 3];
    // The random part only has to be there: nothing is agreed on.
    body.extend([0x5a; 32]);
    body.push(0);
    body.extend((2 * SUITES.len() as u16).to_be_bytes());
    body.extend(SUITES.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    body.extend((EXTENSIONS.len() as u16).to_be_bytes());
    body.extend(EXTENSIONS);
    let length = body.len() as u16;
    let mut hello = vec![0x16, 3, 1];
    hello.extend((length + 4).to_be_bytes());
    hello.extend([1, 0]);
    hello.extend(length.to_be_bytes());
    hello.extend(body);
    hello
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers with what `answer` makes of the first byte.
    async fn server(answer: fn(u8) -> &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = [0; 1024];
                let _ = stream.read(&mut question).await;
                let _ = stream.write_all(answer(question[0])).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn each_protocol_is_told_by_its_first_answer() {
        let http1 = server(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let mute = server(|_| b"").await;
        let tls = server(|first| match first {
            0x16 => b"\x16\x03\x03\0\x30\x02",
            _ => b"HTTP/1.0 400 Bad Request\r\n\r\n",
        });
        let alert = server(|first| match first {
            0x16 => b"\x15\x03\x01\0\x02\x02\x28",
            _ => b"",
        });
        let http2 = server(|first| match first {
            b'P' => b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
            _ => b"",
        });
        let (tls, alert, http2) = (tls.await, alert.await, http2.await);
        for (address, expected) in [
            (http1, None),
            (mute, None),
            (tls, Some(OtherProtocol::Tls)),
            (alert, Some(OtherProtocol::Tls)),
            (http2, Some(OtherProtocol::Http2)),
        ] {
            assert_eq!(recognise(address).await, expected);
        }
    }

    #[test]
    fn the_lengths_in_the_hello_are_those_of_its_parts() {
        let hello = client_hello();
        let length = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
        assert_eq!(length(3), hello.len() - 5);
        assert_eq!(length(7), hello.len() - 9);
    }
}
