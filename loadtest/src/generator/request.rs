//! One request: its call, its connection, and its bytes, all made from its number.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use sample_app::{answers, grpc};

use super::websocket;

const CHUNK_LENGTHS: [usize; 4] = [1, 100, 1500, 8 * 1024];

/// The server, as requests name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// Value of `Host`.
    pub host: String,
    /// Path and query of [`Call::Page`].
    pub page: String,
}

/// One request to make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// Number from 0, in the order in which requests are due.
    pub seq: u64,
    pub connection: Connection,
    pub call: Call,
}

/// The connection that a request is sent on.
#[derive(
    Clone, Copy, Debug, serde::Deserialize, Eq, Ord, PartialEq, PartialOrd, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// One that stays open between requests.
    Kept,
    /// One for this request alone.
    New,
    /// A stream of a connection of HTTP/2, which stays open for the whole load.
    Stream,
}

/// The call of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    Home,
    /// The page that the destination names.
    Page,
    Version,
    /// A body of this many bytes, which must come back.
    Echo(usize),
    /// An answer that takes this time, so that some always span a swap.
    Slow(Duration),
    /// A body of this many bytes, whose digest must come back.
    Upload(usize),
    /// A body in `count` chunks with a pause after each, whose digest must come back.
    Chunks {
        count: u32,
        every: Duration,
    },
    /// Server-sent events with a pause after each.
    Events {
        count: u32,
        every: Duration,
    },
    /// A WebSocket on which messages are echoed, with a pause after each.
    WebSocket {
        count: u32,
        every: Duration,
        /// End with a close frame.
        close: bool,
    },
    /// The version, asked for by a client of HTTP/1.0.
    Http10,
    /// A call of gRPC with `count` messages, with a pause after each.
    Grpc {
        method: Method,
        count: u32,
        every: Duration,
    },
    /// `count` requests or events of one client, with a pause after each.
    Visit {
        visit: Visit,
        count: u32,
        every: Duration,
    },
}

/// A method of the gRPC service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// One message, answered with one.
    Version,
    /// Messages in both directions, each of which must come back.
    Echo,
    /// One message, answered with a stream of events that may outlast a drain.
    Events,
}

/// A kind of visit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visit {
    /// A session in the memory of the app, of a client that keeps cookies.
    Session,
    /// A page that asks again and again for the script of its release, of a client without cookies.
    OldPage,
    /// A stream of events that is opened again with `Last-Event-ID` whenever it ends early.
    Stream,
}

impl Request {
    /// Returns method and target.
    pub fn line(&self, page: &str) -> String {
        match self.call {
            Call::Home => "GET /".to_owned(),
            Call::Page => format!("GET {page}"),
            Call::Slow(wait) => format!("GET /slow?ms={}", wait.as_millis()),
            Call::Events { count, every } => {
                format!("GET /stream?events={count}&every={}", every.as_millis())
            }
            Call::Visit {
                visit,
                count,
                every,
            } => format!("GET {}", visit.target(count, every)),
            Call::Version
            | Call::Echo(_)
            | Call::Upload(_)
            | Call::Chunks { .. }
            | Call::WebSocket { .. }
            | Call::Http10
            | Call::Grpc { .. } => self.call.name().to_owned(),
        }
    }

    /// Returns the request as HTTP/1 sends it; of a chunked body or a WebSocket, the head.
    pub fn encode(&self, Destination { host, page }: &Destination) -> Vec<u8> {
        let mut head = String::with_capacity(128);
        let version = if self.call == Call::Http10 {
            "1.0"
        } else {
            "1.1"
        };
        // Writing to a string cannot fail.
        let _ = write!(head, "{} HTTP/{version}\r\n", self.line(page));
        let _ = match self.call {
            Call::Echo(length) | Call::Upload(length) => {
                write!(head, "Content-Length: {length}\r\n")
            }
            Call::Chunks { .. } => write!(head, "Transfer-Encoding: chunked\r\n"),
            Call::WebSocket { .. } => write!(
                head,
                "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
                websocket::KEY
            ),
            Call::Home
            | Call::Page
            | Call::Version
            | Call::Slow(_)
            | Call::Events { .. }
            | Call::Http10
            | Call::Grpc { .. }
            | Call::Visit { .. } => Ok(()),
        };
        let _ = write!(head, "Host: {host}\r\nX-Request-ID: {}\r\n", self.seq);
        // HTTP/1.0 means it anyway, and a WebSocket has a Connection field already.
        let is_implied = matches!(self.call, Call::WebSocket { .. } | Call::Http10);
        if self.connection == Connection::New && !is_implied {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !matches!(self.call, Call::Chunks { .. }) {
            bytes.extend_from_slice(&self.body());
        }
        bytes
    }

    /// Returns the number of parts that are sent with a pause after each, and that pause.
    pub fn parts(&self) -> (u32, Duration) {
        if let Call::Chunks { count, every }
        | Call::Grpc {
            method: Method::Echo,
            count,
            every,
        } = self.call
        {
            (count, every)
        } else {
            (1, Duration::ZERO)
        }
    }

    /// Returns part `at`, from 0, of a body that is sent in parts.
    pub fn part(&self, at: u32) -> Vec<u8> {
        let length = CHUNK_LENGTHS[(self.seq.wrapping_add(at.into()) % 4) as usize];
        let stamped = || self.stamped(u64::from(at), length);
        let Call::Grpc {
            method,
            count,
            every,
        } = self.call
        else {
            return if matches!(self.call, Call::Chunks { .. }) {
                stamped()
            } else {
                self.body()
            };
        };
        let message = match method {
            Method::Version => Vec::new(),
            Method::Echo => grpc::text(&stamped()),
            Method::Events => grpc::Subscription {
                events: count,
                every_ms: every.as_millis() as u32,
            }
            .encode(),
        };
        grpc::frame(&message).to_vec()
    }

    /// Returns the body, made from the request's number: no other body equals it.
    pub fn body(&self) -> Vec<u8> {
        match self.call {
            Call::Echo(length) | Call::Upload(length) => self.stamped(0, length),
            Call::Chunks { .. } | Call::Grpc { .. } => {
                let (count, _) = self.parts();
                (0..count).flat_map(|at| self.part(at)).collect()
            }
            Call::Home
            | Call::Page
            | Call::Version
            | Call::Slow(_)
            | Call::Events { .. }
            | Call::WebSocket { .. }
            | Call::Http10
            | Call::Visit { .. } => Vec::new(),
        }
    }

    fn stamped(&self, part: u64, length: usize) -> Vec<u8> {
        // Multiplied by an odd constant, neighbours differ already in the first digit.
        let stamp = self.seq.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let stamp = format!("{:016x}", stamp.wrapping_add(part));
        let mut bytes = stamp.into_bytes().repeat(length.div_ceil(16));
        bytes.truncate(length);
        bytes
    }
}

impl Destination {
    /// Names a server by its address alone.
    pub fn at(server: SocketAddr) -> Self {
        Self {
            host: server.to_string(),
            page: "/".to_owned(),
        }
    }
}

impl Connection {
    pub fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::New => "new",
            Self::Stream => "stream",
        }
    }
}

impl Call {
    /// Returns the time that the app was asked to take.
    pub fn wait(self) -> Duration {
        match self {
            Self::Slow(wait) => wait,
            // No pause follows the last part.
            Self::Chunks { count, every }
            | Self::Events { count, every }
            | Self::Grpc { count, every, .. }
            | Self::Visit { count, every, .. }
            | Self::WebSocket { count, every, .. } => every * count.saturating_sub(1),
            Self::Home
            | Self::Page
            | Self::Version
            | Self::Echo(_)
            | Self::Upload(_)
            | Self::Http10 => Duration::ZERO,
        }
    }

    /// Returns method and path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Home => "GET /",
            Self::Page => "GET",
            Self::Version | Self::Http10 => "GET /version",
            Self::Echo(_) => "POST /echo",
            Self::Slow(_) => "GET /slow",
            Self::Upload(_) | Self::Chunks { .. } => "POST /upload",
            Self::Events { .. } => "GET /stream",
            Self::WebSocket { .. } => "GET /ws",
            Self::Grpc { method, .. } => method.name(),
            Self::Visit { visit, .. } => visit.name(),
        }
    }
}

// === impl Method ===

impl Method {
    /// Returns method and path of the request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "POST /sample.App/Version",
            Self::Echo => "POST /sample.App/Echo",
            Self::Events => "POST /sample.App/Events",
        }
    }
}

// === impl Visit ===

impl Visit {
    /// Returns the target of the first request.
    pub fn target(self, count: u32, every: Duration) -> String {
        match self {
            Self::Session => "/session".to_owned(),
            Self::OldPage => answers::PAGE.to_owned(),
            Self::Stream => format!("/stream?events={count}&every={}", every.as_millis()),
        }
    }

    /// Returns method and path of the first request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "GET /session",
            Self::OldPage => "GET /page",
            Self::Stream => "GET /stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_on_a_new_connection_announces_that_it_is_the_last() {
        let request = Request {
            seq: 7,
            connection: Connection::New,
            call: Call::Version,
        };
        let destination = Destination::at(([127, 0, 0, 1], 80).into());
        assert_eq!(
            String::from_utf8(request.encode(&destination)).unwrap(),
            "GET /version HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX-Request-ID: 7\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn the_body_of_an_echo_has_its_length_and_is_its_own() {
        let echo = |seq| Request {
            seq,
            connection: Connection::Kept,
            call: Call::Echo(64),
        };
        let destination = Destination::at(([127, 0, 0, 1], 80).into());
        assert_eq!(echo(1).body().len(), 64);
        assert_ne!(echo(1).body(), echo(3).body());
        assert!(echo(1).encode(&destination).ends_with(&echo(1).body()));
    }
}
