//! Offers load and counts answers, at as little cost as possible: it shares the processors with
//! what it measures. One thread a processor, epoll, no allocation on the way of a request.

mod reply;
mod thread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use self::reply::head_end;
use self::thread::Thread;

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub server: SocketAddr,
    pub path: &'static str,
    /// The length that each answer must have.
    pub body: u64,
    pub connections: usize,
    /// A new connection for each request.
    pub fresh: bool,
    pub pace: Pace,
}

/// When the next request is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// When the answer before it is there.
    Closed,
    /// So many a second, whether or not answers keep up. Latency counts from when it was due.
    Open { per_second: f64 },
}

/// Load that is being offered. Dropped, it ends by itself.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Histogram<u64>, String>>>,
}

/// What the threads and the one that measures tell each other.
#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    connected: AtomicUsize,
    failed: AtomicBool,
    /// One each, so that they do not take the cache line from each other.
    done: Vec<Counter>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// For the answers that are still due at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

// === impl Load ===

impl Load {
    /// Begins; each connection is opened and, unless each request has one of its own, used once.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(&self) -> std::io::Result<Running> {
        let count = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(self.connections);
        let shared = Arc::new(Shared {
            phase: AtomicU8::new(WARMING),
            connected: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            done: (0..count).map(|_| Counter::default()).collect(),
        });
        let mut running = Running {
            shared: Arc::clone(&shared),
            threads: Vec::with_capacity(count),
        };
        for number in 0..count {
            let share = share(self.connections, count, number);
            let (load, shared) = (*self, Arc::clone(&shared));
            let thread = std::thread::Builder::new()
                .name(format!("load-{number}"))
                .spawn(move || {
                    let result = Thread::new(&load, &shared, number, count)
                        .and_then(|thread| thread.run(share));
                    if result.is_err() {
                        shared.failed.store(true, Ordering::Release);
                    }
                    result
                })?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

/// What thread `number` of `count` gets of `all`.
fn share(all: usize, count: usize, number: usize) -> usize {
    all / count + usize::from(number < all % count)
}

// === impl Running ===

impl Running {
    /// Whether every connection is open.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Acquire) == self.threads.len()
    }

    /// Whether a thread has given up. [`Self::finish`] says why.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// How many answers came so far.
    pub fn answers(&self) -> u64 {
        self.shared
            .done
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .sum()
    }

    /// From now on latencies are noted.
    pub fn note_latencies(&self) {
        self.shared.phase.store(MEASURING, Ordering::Release);
    }

    /// Sends no more, waits for what is in flight; the latencies noted, in nanoseconds.
    /// It blocks.
    ///
    /// # Errors
    /// What went wrong first: one wrong answer or lost connection spoils the figures.
    pub fn finish(mut self) -> Result<Histogram<u64>, String> {
        self.shared.phase.store(ENDING, Ordering::Release);
        let mut all: Option<Histogram<u64>> = None;
        for thread in self.threads.drain(..) {
            let one = thread
                .join()
                .map_err(|_| "a thread of the load panicked".to_owned())??;
            match &mut all {
                None => all = Some(one),
                Some(all) => all.add(&one).map_err(|error| error.to_string())?,
            }
        }
        all.ok_or_else(|| "there was no load".to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.phase.store(ENDING, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared_without_a_rest() {
        for (all, count) in [(64, 2), (1000, 3), (5, 4), (1, 1)] {
            let shares: Vec<_> = (0..count).map(|number| share(all, count, number)).collect();
            assert_eq!(shares.iter().sum::<usize>(), all);
            assert!(shares.iter().all(|share| share.abs_diff(all / count) <= 1));
        }
    }
}
