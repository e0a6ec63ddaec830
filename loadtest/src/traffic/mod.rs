//! The mix of requests: a pure function of a request's number, so that every run offers the same.

mod class;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

pub use self::class::Class;
use crate::websocket;

/// Below this many kept connections a slow request would keep the others waiting, and the wait
/// would look like the server's.
const SPARE_CONNECTIONS: usize = 8;

const ECHO_LENGTHS: [usize; 4] = [1, 64, 1024, 16 * 1024];

const CHUNK_LENGTHS: [usize; 4] = [1, 100, 1500, 8 * 1024];

/// Which request comes when.
#[derive(Debug, Clone, Copy)]
pub enum Mix {
    /// The demo's.
    Plain { slow_every: u64, slow_on_kept: bool },
    /// Every class side by side.
    Classes,
    /// One page, for a server of which no more is known.
    Page,
}

/// Where requests go, as they say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The value of `Host`.
    pub host: String,
    /// Path and query that [`Call::Page`] asks for.
    pub page: String,
}

/// One request to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// From 0, in the order in which requests are due.
    pub seq: u64,
    pub connection: Connection,
    pub call: Call,
}

/// The connection that a request goes out on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// One that stays open between requests.
    Kept,
    /// One for this request only.
    New,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Home,
    /// Whatever the place calls its page.
    Page,
    Version,
    /// A body of this many bytes, which must come back.
    Echo(usize),
    /// An answer that takes this long, so that some always span a swap.
    Slow(Duration),
    /// A body of this many bytes, whose digest must come back.
    Upload(usize),
    /// The same in so many chunks, with a pause after each.
    Chunks {
        count: u32,
        every: Duration,
    },
    /// So many server-sent events, with a pause after each.
    Events {
        count: u32,
        every: Duration,
    },
    /// A WebSocket on which so many messages are echoed, with a pause after each; it ends with a
    /// close frame or without.
    Talk {
        count: u32,
        every: Duration,
        close: bool,
    },
    /// The version, for a client of HTTP/1.0.
    Old,
}

impl Mix {
    /// At most ten slow requests a second, whatever the rate: they hold their connections.
    pub fn new(rate: NonZeroU32, connections: NonZeroUsize) -> Self {
        Self::Plain {
            // Odd, so that slow requests come on kept and on new connections in turn.
            slow_every: u64::from((rate.get() / 10).max(20)) | 1,
            slow_on_kept: connections.get() >= SPARE_CONNECTIONS,
        }
    }

    /// Request number `seq`.
    pub fn shot(self, seq: u64) -> Shot {
        match self {
            Self::Plain {
                slow_every,
                slow_on_kept,
            } => plain(seq, slow_every, slow_on_kept),
            Self::Classes => class::shot(seq),
            Self::Page => Shot {
                seq,
                connection: in_turn(seq),
                call: Call::Page,
            },
        }
    }
}

/// Half of them on each kind of connection.
fn in_turn(seq: u64) -> Connection {
    if seq.is_multiple_of(2) {
        Connection::Kept
    } else {
        Connection::New
    }
}

fn plain(seq: u64, slow_every: u64, slow_on_kept: bool) -> Shot {
    let connection = in_turn(seq);
    let slow =
        seq % slow_every == slow_every - 1 && (slow_on_kept || connection == Connection::New);
    let pair = seq / 2;
    let call = if slow {
        Call::Slow(Duration::from_millis(200 + pair * 137 % 1000))
    } else if pair % 10 == 9 {
        Call::Echo(ECHO_LENGTHS[(pair / 10 % 4) as usize])
    } else if pair.is_multiple_of(2) {
        Call::Home
    } else {
        Call::Version
    };
    Shot {
        seq,
        connection,
        call,
    }
}

impl Shot {
    /// Which of the classes that `prove` tells apart it is of.
    pub fn class(&self) -> Class {
        Class::of(self)
    }

    /// The request as it goes on the wire; of one that takes its time, the part that is sent at
    /// once.
    pub fn encode(&self, Place { host, page }: &Place) -> Vec<u8> {
        let mut head = String::with_capacity(128);
        // Writing to a string cannot fail.
        let _ = match self.call {
            Call::Home => write!(head, "GET / HTTP/1.1\r\n"),
            Call::Page => write!(head, "GET {page} HTTP/1.1\r\n"),
            Call::Version => write!(head, "GET /version HTTP/1.1\r\n"),
            Call::Echo(length) => {
                write!(head, "POST /echo HTTP/1.1\r\nContent-Length: {length}\r\n")
            }
            Call::Slow(wait) => write!(head, "GET /slow?ms={} HTTP/1.1\r\n", wait.as_millis()),
            Call::Upload(length) => {
                write!(
                    head,
                    "POST /upload HTTP/1.1\r\nContent-Length: {length}\r\n"
                )
            }
            Call::Chunks { .. } => write!(
                head,
                "POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
            ),
            Call::Events { count, every } => write!(
                head,
                "GET /stream?events={count}&every={} HTTP/1.1\r\n",
                every.as_millis()
            ),
            Call::Talk { .. } => write!(
                head,
                "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
                websocket::KEY
            ),
            Call::Old => write!(head, "GET /version HTTP/1.0\r\n"),
        };
        let _ = write!(head, "Host: {host}\r\nX-Request-ID: {}\r\n", self.seq);
        // It is what HTTP/1.0 means anyway, and a WebSocket's connection is named already.
        let is_named = matches!(self.call, Call::Talk { .. } | Call::Old);
        if self.connection == Connection::New && !is_named {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !matches!(self.call, Call::Chunks { .. }) {
            bytes.extend_from_slice(&self.body());
        }
        bytes
    }

    /// Chunk number `at`, from 0, of a body that is sent so.
    pub fn chunk(&self, at: u32) -> Vec<u8> {
        let length = CHUNK_LENGTHS[(self.seq.wrapping_add(at.into()) % 4) as usize];
        self.stamped(u64::from(at), length)
    }

    /// The body that is sent: made of the request's number, so that no other answer equals it.
    pub fn body(&self) -> Vec<u8> {
        match self.call {
            Call::Echo(length) | Call::Upload(length) => self.stamped(0, length),
            Call::Chunks { count, .. } => (0..count).flat_map(|at| self.chunk(at)).collect(),
            Call::Home
            | Call::Page
            | Call::Version
            | Call::Slow(_)
            | Call::Events { .. }
            | Call::Talk { .. }
            | Call::Old => Vec::new(),
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

impl Place {
    /// A server that is known by its address only.
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
        }
    }
}

impl Call {
    /// How long the app was asked to wait.
    pub fn wait(self) -> Duration {
        match self {
            Self::Slow(wait) => wait,
            // None follows the last.
            Self::Chunks { count, every }
            | Self::Events { count, every }
            | Self::Talk { count, every, .. } => every * count.saturating_sub(1),
            Self::Home
            | Self::Page
            | Self::Version
            | Self::Echo(_)
            | Self::Upload(_)
            | Self::Old => Duration::ZERO,
        }
    }

    /// Method and path, for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Home => "GET /",
            Self::Page => "GET",
            Self::Version => "GET /version",
            Self::Echo(_) => "POST /echo",
            Self::Slow(_) => "GET /slow",
            Self::Upload(_) | Self::Chunks { .. } => "POST /upload",
            Self::Events { .. } => "GET /stream",
            Self::Talk { .. } => "GET /ws",
            Self::Old => "GET /version",
        }
    }

    /// As an app writes it down.
    pub fn is_journaled_as(self, method: &str, path: &str) -> bool {
        self.name().split_once(' ') == Some((method, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(rate: u32, connections: usize) -> Mix {
        Mix::new(
            NonZeroU32::new(rate).unwrap(),
            NonZeroUsize::new(connections).unwrap(),
        )
    }

    fn place() -> Place {
        Place::at(([127, 0, 0, 1], 80).into())
    }

    #[test]
    fn of_a_server_that_is_not_known_only_the_page_is_asked_for() {
        let place = Place {
            host: "example.org".to_owned(),
            page: "/a?b=c".to_owned(),
        };
        let shots = [0, 1].map(|seq| Mix::Page.shot(seq));
        assert_eq!(
            shots.map(|shot| shot.connection),
            [Connection::Kept, Connection::New]
        );
        let text = String::from_utf8(shots[0].encode(&place)).unwrap();
        assert_eq!(
            text,
            "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX-Request-ID: 0\r\n\r\n"
        );
    }

    #[test]
    fn both_kinds_of_connection_carry_every_kind_of_call() {
        let mix = mix(1000, 64);
        for connection in [Connection::Kept, Connection::New] {
            let calls: Vec<Call> = (0..10_000)
                .map(|seq| mix.shot(seq))
                .filter(|s| s.connection == connection)
                .map(|s| s.call)
                .collect();
            assert_eq!(calls.len(), 5_000);
            let share =
                |wanted: fn(&Call) -> bool| calls.iter().filter(|call| wanted(call)).count();
            assert!((2000..2600).contains(&share(|c| matches!(c, Call::Home))));
            assert!((1900..2600).contains(&share(|c| matches!(c, Call::Version))));
            assert!((400..600).contains(&share(|c| matches!(c, Call::Echo(_)))));
            assert!((40..60).contains(&share(|c| matches!(c, Call::Slow(_)))));
        }
    }

    #[test]
    fn slow_requests_do_not_grow_with_the_rate_nor_starve_few_connections() {
        let slow = |mix: Mix, count: u64| {
            (0..count)
                .map(|seq| mix.shot(seq))
                .filter(|s| matches!(s.call, Call::Slow(_)))
                .collect::<Vec<_>>()
        };
        assert_eq!(slow(mix(100_000, 64), 100_000).len(), 9);
        let few = slow(mix(1000, 2), 10_000);
        assert!(few.len() > 40 && few.iter().all(|s| s.connection == Connection::New));
    }

    #[test]
    fn a_request_on_a_new_connection_announces_that_it_is_the_last() {
        let shot = Shot {
            seq: 7,
            connection: Connection::New,
            call: Call::Version,
        };
        assert_eq!(
            String::from_utf8(shot.encode(&place())).unwrap(),
            "GET /version HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX-Request-ID: 7\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn the_body_of_an_echo_has_its_length_and_is_its_own() {
        let echo = |seq| Shot {
            seq,
            connection: Connection::Kept,
            call: Call::Echo(64),
        };
        assert_eq!(echo(1).body().len(), 64);
        assert_ne!(echo(1).body(), echo(3).body());
        assert!(echo(1).encode(&place()).ends_with(&echo(1).body()));
        assert!(mix(1000, 64).shot(0).body().is_empty());
    }
}
