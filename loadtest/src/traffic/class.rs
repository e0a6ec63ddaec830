//! The classes of requests that `prove` offers side by side.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Call, Connection, Shot};

/// What a request is like, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
}

/// Of a hundred requests so many are of each class.
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

/// Between two parts of what takes its time.
const EVERY: Duration = Duration::from_millis(100);

impl Class {
    pub const ALL: [Self; 8] = [
        Self::GetKept,
        Self::GetNew,
        Self::Post,
        Self::Slow,
        Self::Events,
        Self::WebSocket,
        Self::ChunkedUpload,
        Self::Http10,
    ];

    pub fn of(shot: &Shot) -> Self {
        match (shot.call, shot.connection) {
            (Call::Home | Call::Page | Call::Version, Connection::Kept) => Self::GetKept,
            (Call::Home | Call::Page | Call::Version, Connection::New) => Self::GetNew,
            (Call::Echo(_) | Call::Upload(_), _) => Self::Post,
            (Call::Slow(_), _) => Self::Slow,
            (Call::Events { .. }, _) => Self::Events,
            (Call::Talk { .. }, _) => Self::WebSocket,
            (Call::Chunks { .. }, _) => Self::ChunkedUpload,
            (Call::Old, _) => Self::Http10,
        }
    }

    /// Its answers are as quick as the server is. The others span swaps, and their latency is what
    /// they take beyond their own time.
    pub fn is_quick(self) -> bool {
        match self {
            Self::GetKept | Self::GetNew | Self::Post | Self::Http10 => true,
            Self::Slow | Self::Events | Self::WebSocket | Self::ChunkedUpload => false,
        }
    }

    /// The connection that its requests go out on.
    pub fn connection(self) -> Connection {
        match self {
            Self::GetKept | Self::Post => Connection::Kept,
            Self::GetNew
            | Self::Slow
            | Self::Events
            | Self::WebSocket
            | Self::ChunkedUpload
            | Self::Http10 => Connection::New,
        }
    }

    /// For a person.
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
        }
    }
}

/// Request number `seq`, of its class.
pub fn shot(seq: u64) -> Shot {
    // Odd and not a multiple of 5: each hundred has each number once, mixed.
    let mut place = seq * 37 % 100;
    let class = SHARES.into_iter().find(|(_, share)| {
        let found = place < *share;
        place = place.saturating_sub(*share);
        found
    });
    let class = class.map_or(Class::GetKept, |(class, _)| class);
    let number = scattered(seq);
    let parts = 4 + (number % 12) as u32;
    let call = match class {
        Class::GetKept | Class::GetNew => match number.is_multiple_of(2) {
            true => Call::Home,
            false => Call::Version,
        },
        Class::Post => match number.is_multiple_of(4) {
            true => Call::Echo(length(number / 4)),
            false => Call::Upload(length(number / 4)),
        },
        Class::Slow => Call::Slow(Duration::from_millis(200 + number % 1600)),
        Class::Events => Call::Events {
            count: parts,
            every: EVERY,
        },
        Class::WebSocket => Call::Talk {
            count: parts,
            every: EVERY,
            close: (number / 12).is_multiple_of(2),
        },
        Class::ChunkedUpload => Call::Chunks {
            count: parts,
            every: EVERY,
        },
        Class::Http10 => Call::Old,
    };
    Shot {
        seq,
        connection: class.connection(),
        call,
    }
}

/// From 1 byte to 1 MiB, every power of two as often as any other.
fn length(number: u64) -> usize {
    let power = number % 21;
    let least = 1_u64 << power;
    let more = match power {
        20 => 0,
        _ => number / 21 % least,
    };
    (least + more) as usize
}

/// The same number for the same request, and no pattern among neighbours (the finisher of
/// SplitMix64).
fn scattered(seq: u64) -> u64 {
    let mut number = seq.wrapping_add(0x9E37_79B9_7F4A_7C15);
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_hundred_has_every_class_in_its_share() {
        for hundred in [0, 5_000, 123_400] {
            let mut shares = BTreeMap::new();
            for seq in hundred..hundred + 100 {
                *shares.entry(shot(seq).class()).or_insert(0) += 1;
            }
            assert_eq!(shares, SHARES.into_iter().collect());
        }
        assert_eq!(SHARES.map(|(_, share)| share).iter().sum::<u64>(), 100);
    }

    #[test]
    fn bodies_are_from_1_byte_to_1_mib() {
        let mut lengths: Vec<usize> = (0..10_000)
            .map(shot)
            .filter(|shot| shot.class() == Class::Post)
            .map(|shot| shot.body().len())
            .collect();
        lengths.sort_unstable();
        assert_eq!((lengths[0], lengths[lengths.len() - 1]), (1, 1024 * 1024));
        let median = lengths[lengths.len() / 2];
        assert!((500..4000).contains(&median), "{median}");
    }

    #[test]
    fn websockets_end_with_a_close_frame_and_without() {
        let closes = (0..10_000).filter_map(|seq| {
            if let Call::Talk { close, .. } = shot(seq).call {
                Some(close)
            } else {
                None
            }
        });
        let (with, without): (Vec<bool>, Vec<bool>) = closes.partition(|close| *close);
        assert!(with.len() > 50 && without.len() > 50);
    }
}
