//! The mix of requests: a pure function of a request's number, so that every run offers the same.

use std::fmt::Write as _;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Below this many kept connections a slow request would keep the others waiting, and the wait
/// would look like the server's.
const SPARE_CONNECTIONS: usize = 8;

const ECHO_LENGTHS: [usize; 4] = [1, 64, 1024, 16 * 1024];

/// Which request comes when.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    slow_every: u64,
    slow_on_kept: bool,
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
    Version,
    /// A body of this many bytes, which must come back.
    Echo(usize),
    /// An answer that takes this long, so that some always span a swap.
    Slow(Duration),
}

impl Mix {
    /// At most ten slow requests a second, whatever the rate: they hold their connections.
    pub fn new(rate: NonZeroU32, connections: NonZeroUsize) -> Self {
        Self {
            // Odd, so that slow requests come on kept and on new connections in turn.
            slow_every: u64::from((rate.get() / 10).max(20)) | 1,
            slow_on_kept: connections.get() >= SPARE_CONNECTIONS,
        }
    }

    /// Request number `seq`.
    pub fn shot(self, seq: u64) -> Shot {
        let connection = if seq.is_multiple_of(2) {
            Connection::Kept
        } else {
            Connection::New
        };
        let slow = seq % self.slow_every == self.slow_every - 1
            && (self.slow_on_kept || connection == Connection::New);
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
}

impl Shot {
    /// The request as it goes on the wire.
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut head = String::with_capacity(128);
        // Writing to a string cannot fail.
        let _ = match self.call {
            Call::Home => write!(head, "GET / HTTP/1.1\r\n"),
            Call::Version => write!(head, "GET /version HTTP/1.1\r\n"),
            Call::Echo(length) => {
                write!(head, "POST /echo HTTP/1.1\r\nContent-Length: {length}\r\n")
            }
            Call::Slow(wait) => write!(head, "GET /slow?ms={} HTTP/1.1\r\n", wait.as_millis()),
        };
        let _ = write!(head, "Host: {host}\r\nX-Request-ID: {}\r\n", self.seq);
        if self.connection == Connection::New {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body());
        bytes
    }

    /// The body that is sent: made of the request's number, so that no other answer equals it.
    pub fn body(&self) -> Vec<u8> {
        let Call::Echo(length) = self.call else {
            return Vec::new();
        };
        // Multiplied by an odd constant, neighbours differ already in the first digit.
        let stamp = format!(
            "{:016x}",
            self.seq.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        );
        stamp
            .into_bytes()
            .into_iter()
            .cycle()
            .take(length)
            .collect()
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
            Self::Home | Self::Version | Self::Echo(_) => Duration::ZERO,
        }
    }

    /// Method and path, for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Home => "GET /",
            Self::Version => "GET /version",
            Self::Echo(_) => "POST /echo",
            Self::Slow(_) => "GET /slow",
        }
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
            String::from_utf8(shot.encode("127.0.0.1:80")).unwrap(),
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
        assert!(echo(1).encode("h").ends_with(&echo(1).body()));
        assert!(mix(1000, 64).shot(0).body().is_empty());
    }
}
