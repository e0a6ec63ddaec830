//! The load: clients that ask one thing after the other, each on a connection of its own.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::ask::Ask;
use super::ledger::{Outcome, Seen};
use crate::client::Connection;
use crate::wait;

/// Number of connections at the same time.
pub const CLIENTS: usize = 16;
/// Longer than anything that handoff may make a request wait for.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Load until it is ended.
#[derive(Debug)]
pub struct Clients {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Client>>,
}

/// The clock and the kills, seen by all clients.
#[derive(Clone, Debug)]
pub struct Moment {
    start: Instant,
    killing: Arc<AtomicUsize>,
}

/// The outcomes of all requests.
#[derive(Debug, Default)]
pub struct Toll {
    /// One by one.
    pub seen: Vec<Seen>,
    /// Connections that were refused and tried again.
    pub refused: usize,
}

#[derive(Debug)]
struct Client {
    name: String,
    address: SocketAddr,
    moment: Moment,
    rng: Rng,
    kept: Option<Connection>,
    toll: Toll,
}

// === impl Moment ===

impl Default for Moment {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            killing: Arc::default(),
        }
    }
}

impl Moment {
    /// Since the run's start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does what kills; from before to after.
    pub fn killing<T>(&self, kill: impl FnOnce() -> T) -> (Duration, T, Duration) {
        self.killing.fetch_add(1, Ordering::SeqCst);
        let from = self.now();
        let killed = kill();
        let to = self.now();
        self.killing.fetch_sub(1, Ordering::SeqCst);
        (from, killed, to)
    }

    /// Waits until no kill is under way: a client has one request in flight at one kill.
    fn await_end_of_kill(&self) {
        wait::eventually(
            || "what is being killed is gone".to_owned(),
            || (self.killing.load(Ordering::SeqCst) == 0).then_some(()),
        );
    }
}

// === impl Clients ===

impl Clients {
    /// Starts so many. `round` makes their ids differ from those of other rounds.
    pub fn start(
        number: usize,
        address: SocketAddr,
        moment: &Moment,
        round: usize,
        seed: u64,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let mut client = Client {
                name: format!("{round}-{number}"),
                address,
                moment: moment.clone(),
                rng: Rng::with_seed(seed ^ (round * CLIENTS + number) as u64),
                kept: None,
                toll: Toll::default(),
            };
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    client.ask();
                }
                client.kept = None;
                client
            })
        };
        let clients = (0..number).map(client).collect();
        Self { is_over, clients }
    }

    /// Lets them finish what they began.
    pub fn end(mut self) -> Toll {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Toll::default();
        for client in self.clients.drain(..) {
            let toll = client.join().expect("a client").toll;
            all.add(toll);
        }
        all
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

// === impl Toll ===

impl Toll {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.refused += other.refused;
    }
}

// === impl Client ===

impl Client {
    fn ask(&mut self) {
        let ask = Ask::draw(&mut self.rng);
        let id = format!("{}-{}", self.name, self.toll.seen.len());
        let began = self.moment.now();
        let outcome = match self.asked(ask, &id) {
            Ok(outcome) => outcome,
            Err(error) => failure(&error),
        };
        let has_failed = matches!(outcome, Outcome::Failed(_));
        self.toll.seen.push(Seen {
            id,
            method: ask.method(),
            began,
            ended: self.moment.now(),
            outcome,
        });
        if has_failed {
            self.kept = None;
            self.moment.await_end_of_kill();
        }
        wait::sleep_for(
            Duration::from_millis(self.rng.u64(0..10)),
            "a client thinks",
        );
    }

    fn asked(&mut self, ask: Ask, id: &str) -> io::Result<Outcome> {
        let mut connection = self.connection()?;
        connection.try_write(&ask.bytes(id))?;
        let answer = connection.answer()?;
        let closes = answer.header("connection") == Some("close");
        if !closes && self.rng.u8(0..10) < 7 {
            self.kept = Some(connection);
        }
        Ok(ask.judge(id, &answer))
    }

    /// The kept one, if the other side has not ended it; or a new one. Refused, nothing has been
    /// sent: it is tried again.
    fn connection(&mut self) -> io::Result<Connection> {
        if let Some(kept) = self.kept.take()
            && !kept.has_ended()
        {
            return Ok(kept);
        }
        let began = self.moment.now();
        loop {
            match Connection::open(self.address) {
                Err(error)
                    if error.kind() == ErrorKind::ConnectionRefused
                        && self.moment.now() - began < TOO_LONG =>
                {
                    self.toll.refused += 1;
                    wait::sleep_for(Duration::from_millis(10), "handoff is away");
                }
                opened => return opened,
            }
        }
    }
}

/// A connection that ends is a failure that shows. Nothing for ever, or nonsense, is none.
fn failure(error: &io::Error) -> Outcome {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ended = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        UnexpectedEof,
    ];
    if ended.contains(&error.kind()) {
        Outcome::Failed("cut off".to_owned())
    } else {
        Outcome::Wrong(error.to_string())
    }
}
