//! Mixes of requests: pure functions of a request's number, so that every run offers the same.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{Call, Connection, Method, Request, Visit};

/// Minimum number of kept connections for slow requests: with fewer, one would delay the others, and
/// the delay would look like the server's.
const SPARE_CONNECTIONS: usize = 8;

const ECHO_LENGTHS: [usize; 4] = [1, 64, 1024, 16 * 1024];

/// Pause between two parts of a stream.
const EVERY: Duration = Duration::from_millis(100);

/// The order of requests.
#[derive(Clone, Copy, Debug)]
pub enum Mix {
    /// The demo's mix.
    Plain { slow_every: u64, slow_on_kept: bool },
    /// The same, and clients with a session in the app's memory.
    Sessions { slow_every: u64, slow_on_kept: bool },
    /// Every class of traffic of these clients side by side.
    Classes(Clients),
    /// One page, for a server of which no more is known.
    Page,
}

/// The clients of a load.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// Clients of HTTP/1.
    #[default]
    Http1,
    /// The same, and some who stay over swaps.
    Visits,
    /// Clients of HTTP/2, who keep their connections over swaps.
    Http2,
    /// The same, and some of gRPC, for which the app has to speak HTTP/2, too.
    Grpc,
}

/// A class of traffic.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    GetKept,
    GetNew,
    Post,
    Slow,
    Events,
    #[serde(rename = "websocket")]
    WebSocket,
    ChunkedUpload,
    #[serde(rename = "http_1_0")]
    Http10,
    Session,
    OldPage,
    ResumedEvents,
    Http2,
    Http2Long,
    Grpc,
    GrpcEcho,
    GrpcEvents,
}

/// Pause between two requests or events of a visit.
const VISIT_EVERY: Duration = Duration::from_millis(400);
const STREAM_EVERY: Duration = Duration::from_secs(1);

/// Number of requests of each class in a hundred.
const SHARES: [(Class, u64); 8] = [
    (Class::GetKept, 46),
    (Class::GetNew, 24),
    (Class::Post, 15),
    (Class::Http10, 6),
    (Class::Slow, 3),
    (Class::Events, 2),
    (Class::WebSocket, 2),
    (Class::ChunkedUpload, 2),
];

// === impl Mix ===

impl Mix {
    /// Makes the demo's mix. It has at most ten slow requests a second, as they occupy their
    /// connections.
    pub fn plain(rate: NonZeroU32, connections: NonZeroUsize) -> Self {
        let (slow_every, slow_on_kept) = slow(rate, connections);
        Self::Plain {
            slow_every,
            slow_on_kept,
        }
    }

    /// Makes the same mix, in which every fiftieth request begins a session.
    pub fn sessions(rate: NonZeroU32, connections: NonZeroUsize) -> Self {
        let (slow_every, slow_on_kept) = slow(rate, connections);
        Self::Sessions {
            slow_every,
            slow_on_kept,
        }
    }

    /// Returns request number `seq`.
    pub fn request(self, seq: u64) -> Request {
        // Half of them on each kind of connection.
        let connection = if seq.is_multiple_of(2) {
            Connection::Kept
        } else {
            Connection::New
        };
        let call = match self {
            Self::Classes(clients) => return clients.request(seq),
            Self::Page => Call::Page,
            Self::Sessions { .. } if seq % 50 == 7 => session(scattered(seq)),
            Self::Plain {
                slow_every,
                slow_on_kept,
            }
            | Self::Sessions {
                slow_every,
                slow_on_kept,
            } => {
                let may_be_slow = slow_on_kept || connection == Connection::New;
                plain(seq, may_be_slow && seq % slow_every == slow_every - 1)
            }
        };
        Request {
            seq,
            connection,
            call,
        }
    }
}

fn slow(rate: NonZeroU32, connections: NonZeroUsize) -> (u64, bool) {
    // Odd, so that slow requests come on kept and on new connections in turn.
    let every = u64::from((rate.get() / 10).max(20)) | 1;
    (every, connections.get() >= SPARE_CONNECTIONS)
}

fn plain(seq: u64, is_slow: bool) -> Call {
    let pair = seq / 2;
    if is_slow {
        Call::Slow(Duration::from_millis(200 + pair * 137 % 1000))
    } else if pair % 10 == 9 {
        Call::Echo(ECHO_LENGTHS[(pair / 10 % 4) as usize])
    } else if pair.is_multiple_of(2) {
        Call::Home
    } else {
        Call::Version
    }
}

fn session(number: u64) -> Call {
    Call::Visit {
        visit: Visit::Session,
        count: 4 + (number % 8) as u32,
        every: VISIT_EVERY,
    }
}

/// Returns the visit that takes the place of a request on a new connection: three in two hundred.
fn visit(seq: u64) -> Option<Request> {
    let number = scattered(seq);
    let call = match seq % 200 {
        7 => session(number),
        77 => Call::Visit {
            visit: Visit::OldPage,
            count: 4 + (number % 8) as u32,
            every: VISIT_EVERY,
        },
        // Longer than sessions last.
        147 => Call::Visit {
            visit: Visit::Stream,
            count: 10 + (number % 5) as u32,
            every: STREAM_EVERY,
        },
        _ => return None,
    };
    Some(Request {
        seq,
        connection: Connection::New,
        call,
    })
}

/// Returns the request of HTTP/2 in the place of one of HTTP/1, which has two that it has not.
fn on_stream(seq: u64) -> Request {
    let request = of_classes(seq);
    let call = if matches!(request.call, Call::WebSocket { .. } | Call::Http10) {
        Call::Version
    } else {
        request.call
    };
    Request {
        connection: Connection::Stream,
        call,
        ..request
    }
}

/// Returns the call of gRPC that takes the place of a GET: 9 in a hundred requests. They are short, and
/// an app whose library is h2 ends a connection on which more than some hundred wait to be read: with a
/// larger share, it would be a stall of the machine that fails.
fn call(seq: u64) -> Option<Request> {
    let number = scattered(seq);
    let (method, count, every) = match place(seq) {
        0..6 => (Method::Version, 1, Duration::ZERO),
        6..8 => (Method::Echo, 4 + (number % 12) as u32, EVERY),
        // Longer than a drain.
        8 => (Method::Events, 6 + (number % 4) as u32, STREAM_EVERY),
        _ => return None,
    };
    Some(Request {
        seq,
        connection: Connection::Stream,
        call: Call::Grpc {
            method,
            count,
            every,
        },
    })
}

/// Returns a number below 100 that decides the class of a request.
fn place(seq: u64) -> u64 {
    // Odd and no multiple of 5: each hundred has each number once, mixed.
    seq * 37 % 100
}

fn of_classes(seq: u64) -> Request {
    let mut place = place(seq);
    let class = SHARES.into_iter().find(|(_, share)| {
        let is_found = place < *share;
        place = place.saturating_sub(*share);
        is_found
    });
    let class = class.map_or(Class::GetKept, |(class, _)| class);
    let number = scattered(seq);
    let (count, every) = (4 + (number % 12) as u32, EVERY);
    let call = match class {
        Class::GetKept | Class::GetNew if number.is_multiple_of(2) => Call::Home,
        Class::GetKept | Class::GetNew => Call::Version,
        Class::Post if number.is_multiple_of(4) => Call::Echo(length(number / 4)),
        Class::Post => Call::Upload(length(number / 4)),
        Class::Slow => Call::Slow(Duration::from_millis(200 + number % 1600)),
        Class::Events => Call::Events { count, every },
        Class::WebSocket => Call::WebSocket {
            count,
            every,
            close: (number / 12).is_multiple_of(2),
        },
        Class::ChunkedUpload => Call::Chunks { count, every },
        Class::Http10
        | Class::Session
        | Class::OldPage
        | Class::ResumedEvents
        | Class::Http2
        | Class::Http2Long
        | Class::Grpc
        | Class::GrpcEcho
        | Class::GrpcEvents => Call::Http10,
    };
    let connection = if matches!(class, Class::GetKept | Class::Post) {
        Connection::Kept
    } else {
        Connection::New
    };
    Request {
        seq,
        connection,
        call,
    }
}

/// Returns a length from 1 byte to 1 MiB, every power of two as often as any other.
fn length(number: u64) -> usize {
    let power = number % 21;
    let least = 1_u64 << power;
    let more = match power {
        20 => 0,
        _ => number / 21 % least,
    };
    (least + more) as usize
}

/// Returns a number without a pattern among neighbours (the finisher of SplitMix64).
fn scattered(seq: u64) -> u64 {
    let mut number = seq.wrapping_add(0x9E37_79B9_7F4A_7C15);
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

// === impl Clients ===

impl Clients {
    pub const ALL: [Self; 4] = [Self::Http1, Self::Visits, Self::Http2, Self::Grpc];

    fn request(self, seq: u64) -> Request {
        match self {
            Self::Http1 => of_classes(seq),
            Self::Visits => visit(seq).unwrap_or_else(|| of_classes(seq)),
            Self::Http2 => on_stream(seq),
            Self::Grpc => call(seq).unwrap_or_else(|| on_stream(seq)),
        }
    }

    /// Returns its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Visits => "HTTP/1 with visits",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "HTTP/2 with gRPC",
        }
    }
}

// === impl Class ===

impl Class {
    pub const ALL: [Self; 16] = [
        Self::GetKept,
        Self::GetNew,
        Self::Post,
        Self::Slow,
        Self::Events,
        Self::WebSocket,
        Self::ChunkedUpload,
        Self::Http10,
        Self::Session,
        Self::OldPage,
        Self::ResumedEvents,
        Self::Http2,
        Self::Http2Long,
        Self::Grpc,
        Self::GrpcEcho,
        Self::GrpcEvents,
    ];

    pub fn of(request: &Request) -> Self {
        match (request.call, request.connection) {
            (Call::Slow(_) | Call::Events { .. } | Call::Chunks { .. }, Connection::Stream) => {
                Self::Http2Long
            }
            (Call::Grpc { method, .. }, _) => match method {
                Method::Version => Self::Grpc,
                Method::Echo => Self::GrpcEcho,
                Method::Events => Self::GrpcEvents,
            },
            (_, Connection::Stream) => Self::Http2,
            (Call::Home | Call::Page | Call::Version, Connection::Kept) => Self::GetKept,
            (Call::Home | Call::Page | Call::Version, Connection::New) => Self::GetNew,
            (Call::Echo(_) | Call::Upload(_), _) => Self::Post,
            (Call::Slow(_), _) => Self::Slow,
            (Call::Events { .. }, _) => Self::Events,
            (Call::WebSocket { .. }, _) => Self::WebSocket,
            (Call::Chunks { .. }, _) => Self::ChunkedUpload,
            (Call::Http10, _) => Self::Http10,
            (Call::Visit { visit, .. }, _) => match visit {
                Visit::Session => Self::Session,
                Visit::OldPage => Self::OldPage,
                Visit::Stream => Self::ResumedEvents,
            },
        }
    }

    /// Tells whether the answer takes no time of its own. The other classes span swaps, and their
    /// latency is the time beyond what was asked for.
    pub fn is_quick(self) -> bool {
        match self {
            Self::GetKept | Self::GetNew | Self::Post | Self::Http10 | Self::Http2 | Self::Grpc => {
                true
            }
            Self::Slow
            | Self::Events
            | Self::WebSocket
            | Self::ChunkedUpload
            | Self::Session
            | Self::OldPage
            | Self::ResumedEvents
            | Self::Http2Long
            | Self::GrpcEcho
            | Self::GrpcEvents => false,
        }
    }

    /// Returns its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetKept => "GET, kept connection",
            Self::GetNew => "GET, new connection",
            Self::Post => "POST, 1 byte to 1 MiB",
            Self::Slow => "slow answer",
            Self::Events => "event stream",
            Self::WebSocket => "WebSocket",
            Self::ChunkedUpload => "chunked upload",
            Self::Http10 => "HTTP/1.0",
            Self::Session => "session in the app",
            Self::OldPage => "assets of an old page",
            Self::ResumedEvents => "resumed event stream",
            Self::Http2 => "HTTP/2 stream",
            Self::Http2Long => "HTTP/2 stream, long",
            Self::Grpc => "gRPC call",
            Self::GrpcEcho => "gRPC, messages both ways",
            Self::GrpcEvents => "gRPC, stream of events",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn mix(rate: u32, connections: usize) -> Mix {
        Mix::plain(
            NonZeroU32::new(rate).unwrap(),
            NonZeroUsize::new(connections).unwrap(),
        )
    }

    #[test]
    fn of_a_server_that_is_not_known_only_the_page_is_asked_for() {
        let requests = [0, 1].map(|seq| Mix::Page.request(seq));
        assert_eq!(
            requests.map(|request| (request.connection, request.call)),
            [
                (Connection::Kept, Call::Page),
                (Connection::New, Call::Page)
            ]
        );
    }

    #[test]
    fn both_kinds_of_connection_carry_every_kind_of_call() {
        let mix = mix(1000, 64);
        for connection in [Connection::Kept, Connection::New] {
            let requests = (0..10_000).map(|seq| mix.request(seq));
            let calls: Vec<Call> = requests
                .filter(|request| request.connection == connection)
                .map(|request| request.call)
                .collect();
            assert_eq!(calls.len(), 5_000);
            let share = |wanted: fn(&Call) -> bool| calls.iter().filter(|c| wanted(c)).count();
            assert!((2000..2600).contains(&share(|c| matches!(c, Call::Home))));
            assert!((1900..2600).contains(&share(|c| matches!(c, Call::Version))));
            assert!((400..600).contains(&share(|c| matches!(c, Call::Echo(_)))));
            assert!((40..60).contains(&share(|c| matches!(c, Call::Slow(_)))));
        }
    }

    #[test]
    fn slow_requests_do_not_grow_with_the_rate_nor_starve_few_connections() {
        let slow = |mix: Mix, count: u64| {
            let requests = (0..count).map(|seq| mix.request(seq));
            requests
                .filter(|request| matches!(request.call, Call::Slow(_)))
                .collect::<Vec<_>>()
        };
        assert_eq!(slow(mix(100_000, 64), 100_000).len(), 9);
        let few = slow(mix(1000, 2), 10_000);
        assert!(few.len() > 40 && few.iter().all(|r| r.connection == Connection::New));
    }

    #[test]
    fn each_hundred_has_every_class_in_its_share() {
        for hundred in [0, 5_000, 123_400] {
            let mut shares = BTreeMap::new();
            for seq in hundred..hundred + 100 {
                *shares.entry(Class::of(&of_classes(seq))).or_insert(0) += 1;
            }
            assert_eq!(shares, SHARES.into_iter().collect());
        }
        assert_eq!(SHARES.map(|(_, share)| share).iter().sum::<u64>(), 100);
    }

    #[test]
    fn every_fiftieth_begins_a_session_in_a_mix_that_has_them() {
        let rate = NonZeroU32::new(1000).unwrap();
        let connections = NonZeroUsize::new(64).unwrap();
        let mix = Mix::sessions(rate, connections);
        let sessions = (0..1000).filter(|seq| Class::of(&mix.request(*seq)) == Class::Session);
        assert_eq!(sessions.count(), 20);
        let (plain, other) = (Mix::plain(rate, connections), mix.request(8));
        assert_eq!(plain.request(8).call, other.call);
    }

    #[test]
    fn visits_take_the_place_of_few_others_and_only_where_they_are_asked_for() {
        for hundred in [0, 123_400] {
            let mix = Mix::Classes(Clients::Visits);
            let visits = (hundred..hundred + 200).map(|seq| Class::of(&mix.request(seq)));
            let visits: Vec<Class> = visits.filter(|class| *class >= Class::Session).collect();
            assert_eq!(
                visits,
                [Class::Session, Class::OldPage, Class::ResumedEvents]
            );
        }
        let plain = Mix::Classes(Clients::Http1);
        let plain = (0..200).map(|seq| Class::of(&plain.request(seq)));
        assert!(plain.max() < Some(Class::Session));
    }

    #[test]
    fn clients_of_http_2_have_classes_of_their_own() {
        let shares = |clients: Clients| {
            let mut shares = BTreeMap::new();
            for seq in 0..1000 {
                let request = clients.request(seq);
                assert_eq!(request.connection, Connection::Stream);
                *shares.entry(Class::of(&request)).or_insert(0) += 1;
            }
            shares
        };
        let expected = [(Class::Http2, 930), (Class::Http2Long, 70)];
        assert_eq!(shares(Clients::Http2), expected.into_iter().collect());
        let shares = shares(Clients::Grpc);
        assert_eq!(shares[&Class::Grpc], 60);
        assert_eq!(shares[&Class::GrpcEcho], 20);
        assert_eq!(shares[&Class::GrpcEvents], 10);
        assert_eq!(shares[&Class::Http2Long], 70);
    }

    #[test]
    fn bodies_are_from_1_byte_to_1_mib() {
        let mut lengths: Vec<usize> = (0..10_000)
            .map(of_classes)
            .filter(|request| Class::of(request) == Class::Post)
            .map(|request| request.body().len())
            .collect();
        lengths.sort_unstable();
        assert_eq!((lengths[0], lengths[lengths.len() - 1]), (1, 1024 * 1024));
        let median = lengths[lengths.len() / 2];
        assert!((500..4000).contains(&median), "{median}");
    }

    #[test]
    fn websockets_end_with_a_close_frame_and_without() {
        let closes = (0..10_000).filter_map(|seq| {
            if let Call::WebSocket { close, .. } = of_classes(seq).call {
                Some(close)
            } else {
                None
            }
        });
        let (with, without): (Vec<bool>, Vec<bool>) = closes.partition(|close| *close);
        assert!(with.len() > 50 && without.len() > 50);
    }
}
