//! Steady load: requests at a fixed rate, whatever becomes of the ones before.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Connection;

/// Bytes of a long answer: more than any buffer on its way.
const LONG: usize = 20_000;
/// Every so many requests one takes its time, and its answer is long.
const SLOW_EVERY: usize = 10;

/// Load on one address, until it is ended.
#[derive(Debug)]
pub struct Load {
    is_over: Arc<AtomicBool>,
    pace: JoinHandle<Tally>,
}

/// The outcomes that clients saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests.
    pub sent: usize,
    /// Those with a whole and right answer, by release.
    pub answered: BTreeMap<String, usize>,
    /// All others, by kind.
    pub failed: BTreeMap<String, usize>,
}

// === impl Load ===

impl Load {
    /// Offers so many requests a second, each on a connection and a thread of its own. On Windows
    /// a tenth of it: a thread costs Wine's server several files, and it may not have many.
    pub fn offer(address: SocketAddr, rate: u32) -> Self {
        let rate = if cfg!(windows) {
            rate.div_ceil(10)
        } else {
            rate
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        Self {
            is_over,
            pace: thread::spawn(move || offer(address, rate, &until)),
        }
    }

    /// Offers no more, and waits for every answer.
    pub fn end(self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        self.pace.join().expect("a tally")
    }
}

fn offer(address: SocketAddr, rate: u32, is_over: &AtomicBool) -> Tally {
    let began = Instant::now();
    let mut clients = Vec::new();
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Relaxed) {
        let number = tally.sent;
        tally.sent += 1;
        clients.push(thread::spawn(move || request(address, number)));
        let due = began + Duration::from_secs(1) * (number as u32 + 1) / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    for client in clients {
        let seen = client.join().expect("what a client saw");
        let (counts, name) = match seen {
            Ok(release) => (&mut tally.answered, release),
            Err(kind) => (&mut tally.failed, kind),
        };
        *counts.entry(name).or_default() += 1;
    }
    tally
}

/// The release that answered, or the kind of failure.
fn request(address: SocketAddr, number: usize) -> Result<String, String> {
    let is_slow = number.is_multiple_of(SLOW_EVERY);
    let slow = format!("/slow?ms=300&bytes={LONG}");
    let target = if is_slow { &slow } else { "/version" };
    let failed = |error: std::io::Error| {
        let kind = error.kind();
        let timeout = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&kind);
        let refused = kind == ErrorKind::ConnectionRefused;
        match (refused, timeout) {
            (true, _) => "refused".to_owned(),
            (_, true) => "timeout".to_owned(),
            (false, false) => "cut off".to_owned(),
        }
    };
    let mut connection = Connection::open(address).map_err(failed)?;
    let answer = connection.get(target).map_err(failed)?;
    let release = answer.release();
    match answer.status {
        200 if is_slow && answer.body.len() != LONG => Err("truncated as success".to_owned()),
        200 if !is_slow && answer.body != release.as_bytes() => Err("wrong".to_owned()),
        200 => Ok(release.to_owned()),
        status => Err(format!("status {status}")),
    }
}

// === impl Tally ===

impl Tally {
    /// Requests without a whole and right answer.
    pub fn lost(&self) -> usize {
        self.failed.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} lost", self.sent, self.lost())?;
        let mut separator = ": ";
        for (kind, count) in &self.failed {
            write!(f, "{separator}{kind} {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}
