//! Counters of the workers, for metrics.
//!
//! Each worker has its own counters on their own cache lines, and is the only one to write them: an
//! addition is a load and a store, without a lock and without traffic between processors. A reader
//! adds them up ([`TrafficCounters::read`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;

use crate::release::Generation;
use crate::router::Class;

/// Upper bounds of the buckets of the time to a response's head, in seconds. One more bucket has no
/// bound.
pub const BUCKETS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// Maximum number of generations whose counters are kept, the latest ones. With a deploy every
/// minute for a year, neither this process nor the collector of the metrics runs out of memory.
const KEPT: usize = 8;

/// The counters of all workers.
#[derive(Clone, Debug, Default)]
pub struct TrafficCounters(Arc<Mutex<Vec<Arc<CounterCells>>>>);

/// The counters that one worker writes.
#[derive(Debug)]
pub(super) struct WorkerCounters {
    cells: Arc<CounterCells>,
    /// Counters by generation. The latest is last, and nearly always the one to write.
    responses: RefCell<Vec<Arc<GenerationCells>>>,
}

/// The sums of all counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficTotals {
    /// Responses by the generation that sent them; `None` are those by handoff itself.
    pub responses: BTreeMap<Option<Generation>, ResponseTotals>,
    /// Requests that were sent again, as the app had closed the connection.
    pub retried: u64,
    /// Connections that the app did not accept, each of which was tried again.
    pub refused: u64,
    /// Requests that were cut because their release was replaced.
    pub evicted_requests: u64,
    /// Tunnels and event streams that were cut for the same reason.
    pub evicted_tunnels: u64,
    /// Requests that may have reached the app, got no response, and could not be sent again.
    pub unanswered: u64,
    /// Connections of HTTP/2 that were ended because their clients asked for too much.
    pub floods: u64,
    /// Open client connections.
    pub connections: usize,
}

/// The responses of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResponseTotals {
    /// Responses by class, 1xx to 5xx.
    pub by_class: [u64; 5],
    /// Responses by time, one entry for each of [`BUCKETS`] and one for those that took longer.
    pub by_time: [u64; BUCKETS.len() + 1],
    /// Sum of all times.
    pub time: Duration,
}

/// The counters of one worker, on a pair of cache lines, which processors fetch together.
#[derive(Debug)]
#[repr(align(128))]
struct CounterCells {
    retried: AtomicU64,
    refused: AtomicU64,
    evicted_requests: AtomicU64,
    evicted_tunnels: AtomicU64,
    unanswered: AtomicU64,
    floods: AtomicU64,
    connections: Arc<AtomicUsize>,
    /// Counters by generation; the worker locks them only for a new generation.
    responses: Mutex<Vec<Arc<GenerationCells>>>,
}

#[derive(Debug)]
#[repr(align(128))]
struct GenerationCells {
    generation: Option<Generation>,
    by_class: [AtomicU64; 5],
    by_time: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

// === impl TrafficCounters ===

impl TrafficCounters {
    /// Adds a worker; `connections` counts its open connections.
    pub(super) fn register_worker(&self, connections: &Arc<AtomicUsize>) -> WorkerCounters {
        let cells = Arc::new(CounterCells {
            retried: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            evicted_requests: AtomicU64::new(0),
            evicted_tunnels: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            floods: AtomicU64::new(0),
            connections: Arc::clone(connections),
            responses: Mutex::default(),
        });
        self.0.lock().push(Arc::clone(&cells));
        WorkerCounters {
            cells,
            responses: RefCell::default(),
        }
    }

    /// Returns the present sums.
    pub fn read(&self) -> TrafficTotals {
        let mut totals = TrafficTotals::default();
        for worker in self.0.lock().iter() {
            totals.retried += read(&worker.retried);
            totals.refused += read(&worker.refused);
            totals.evicted_requests += read(&worker.evicted_requests);
            totals.evicted_tunnels += read(&worker.evicted_tunnels);
            totals.unanswered += read(&worker.unanswered);
            totals.floods += read(&worker.floods);
            totals.connections += worker.connections.load(Ordering::Relaxed);
            for responses in worker.responses.lock().iter() {
                let sum = totals.responses.entry(responses.generation).or_default();
                responses.add_to(sum);
            }
        }
        // A worker without requests since then still has a generation that others have dropped.
        while totals.responses.keys().flatten().count() > KEPT {
            let oldest = totals.responses.keys().find(|key| key.is_some()).copied();
            totals.responses.remove(&oldest.flatten());
        }
        totals
    }
}

// === impl WorkerCounters ===

impl WorkerCounters {
    /// Counts a response, and the time to its head.
    pub(super) fn count_response(
        &self,
        by: Option<Generation>,
        status: StatusCode,
        after: Duration,
    ) {
        let mut responses = self.responses.borrow_mut();
        let position =
            |responses: &[Arc<GenerationCells>]| responses.iter().rposition(|a| a.generation == by);
        let known = position(&responses).or_else(|| {
            *responses = self.cells.add_generation(by);
            position(&responses)
        });
        // A generation older than all that are kept is not counted.
        if let Some(index) = known {
            responses[index].count(status, after);
        }
    }

    /// Counts a request that is sent to the app a second time.
    pub(super) fn count_retry(&self) {
        add(&self.cells.retried, 1);
    }

    /// Counts a connection that the app did not accept.
    pub(super) fn count_refused(&self) {
        add(&self.cells.refused, 1);
    }

    /// Counts connections of a class that were cut.
    pub(super) fn count_evicted(&self, class: Class, count: u64) {
        match class {
            Class::Request => add(&self.cells.evicted_requests, count),
            Class::Tunnel => add(&self.cells.evicted_tunnels, count),
        }
    }

    /// Counts a request that may have reached the app and is lost.
    pub(super) fn count_unanswered(&self) {
        add(&self.cells.unanswered, 1);
    }

    /// Counts a connection that was ended because its client asked for too much.
    pub(super) fn count_flood(&self) {
        add(&self.cells.floods, 1);
    }
}

// === impl CounterCells ===

impl CounterCells {
    /// Adds a generation as the last of those that are kept.
    fn add_generation(&self, generation: Option<Generation>) -> Vec<Arc<GenerationCells>> {
        let mut responses = self.responses.lock();
        responses.push(Arc::new(GenerationCells {
            generation,
            by_class: Default::default(),
            by_time: Default::default(),
            nanoseconds: AtomicU64::new(0),
        }));
        while responses.iter().filter(|a| a.generation.is_some()).count() > KEPT {
            let oldest = responses.iter().filter_map(|a| a.generation).min();
            responses.retain(|a| a.generation.is_none() || a.generation != oldest);
        }
        responses.clone()
    }
}

// === impl GenerationCells ===

impl GenerationCells {
    fn count(&self, status: StatusCode, after: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        add(&self.by_class[class], 1);
        let seconds = after.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end);
        add(&self.by_time[bucket.unwrap_or(BUCKETS.len())], 1);
        let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        add(&self.nanoseconds, nanoseconds);
    }

    fn add_to(&self, sum: &mut ResponseTotals) {
        for (sum, more) in sum.by_class.iter_mut().zip(&self.by_class) {
            *sum += read(more);
        }
        for (sum, more) in sum.by_time.iter_mut().zip(&self.by_time) {
            *sum += read(more);
        }
        sum.time += Duration::from_nanos(read(&self.nanoseconds));
    }
}

// === impl ResponseTotals ===

impl ResponseTotals {
    /// Returns the number of responses.
    pub fn all(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Returns the difference to an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut more = *self;
        for (now, then) in more.by_class.iter_mut().zip(earlier.by_class) {
            *now = now.saturating_sub(then);
        }
        for (now, then) in more.by_time.iter_mut().zip(earlier.by_time) {
            *now = now.saturating_sub(then);
        }
        more.time = more.time.saturating_sub(earlier.time);
        more
    }

    /// Returns the time in seconds within which this share of the responses came, with the
    /// precision of the buckets.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.by_time.iter().sum();
        let rank = share * all as f64;
        let mut below = 0;
        for (index, &count) in self.by_time.iter().enumerate() {
            if count > 0 && (below + count) as f64 >= rank {
                let from = index.checked_sub(1).map_or(0.0, |before| BUCKETS[before]);
                let to = BUCKETS.get(index).copied().unwrap_or(from);
                let within = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
                return Some(from + (to - from) * within);
            }
            below += count;
        }
        None
    }
}

/// Adds to a counter. There is only one writer, so a load and a store suffice.
fn add(number: &AtomicU64, more: u64) {
    let sum = number.load(Ordering::Relaxed).wrapping_add(more);
    number.store(sum, Ordering::Relaxed);
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<Generation> = Some(Generation(1));

    fn milliseconds(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn what_workers_count_is_added_up() {
        let counters = TrafficCounters::default();
        let connections = Arc::new(AtomicUsize::new(3));
        let workers = [
            counters.register_worker(&connections),
            counters.register_worker(&connections),
        ];
        for worker in &workers {
            worker.count_response(FIRST, StatusCode::OK, milliseconds(2));
            worker.count_response(None, StatusCode::SERVICE_UNAVAILABLE, milliseconds(60_000));
            worker.count_response(FIRST, StatusCode::NOT_FOUND, milliseconds(2));
            worker.count_retry();
            worker.count_refused();
            worker.count_evicted(Class::Request, 2);
            worker.count_evicted(Class::Tunnel, 1);
            worker.count_unanswered();
        }
        let totals = counters.read();
        let first = totals.responses[&FIRST];
        assert_eq!(first.by_class, [0, 2, 0, 2, 0]);
        assert_eq!(first.by_time[3], 4, "1 to 2.5 ms: {first:?}");
        assert_eq!(first.time, milliseconds(8));
        let own = totals.responses[&None];
        assert_eq!(own.by_class, [0, 0, 0, 0, 2]);
        assert_eq!(own.by_time[BUCKETS.len()], 2);
        let others = [totals.retried, totals.refused, totals.unanswered];
        assert_eq!(others, [2, 2, 2]);
        assert_eq!([totals.evicted_requests, totals.evicted_tunnels], [4, 2]);
        assert_eq!(totals.connections, 6);
    }

    #[test]
    fn numbers_of_old_generations_go_and_our_own_stay() {
        let counters = TrafficCounters::default();
        let worker = counters.register_worker(&Arc::default());
        worker.count_response(None, StatusCode::BAD_REQUEST, Duration::ZERO);
        for generation in 1..=100 {
            let generation = Some(Generation(generation));
            worker.count_response(generation, StatusCode::OK, Duration::ZERO);
        }
        let responses = counters.read().responses;
        let kept: Vec<_> = responses.keys().flatten().map(|g| g.0).collect();
        assert_eq!(kept, Vec::from_iter(93..=100));
        assert_eq!(responses[&None].all(), 1);

        worker.count_response(FIRST, StatusCode::OK, Duration::ZERO);
        let responses = counters.read().responses;
        assert!(!responses.contains_key(&FIRST));
        let last = responses[&Some(Generation(100))].all();
        assert_eq!(last, 1, "it is not taken for another one's");

        // A worker that has served nothing since then.
        let worker = counters.register_worker(&Arc::default());
        worker.count_response(FIRST, StatusCode::OK, Duration::ZERO);
        assert!(!counters.read().responses.contains_key(&FIRST));
    }

    #[test]
    fn a_share_of_the_answers_came_in_so_many_seconds() {
        let mut totals = ResponseTotals::default();
        assert_eq!(totals.quantile(0.5), None);
        totals.by_time[1] = 90;
        totals.by_time[10] = 10;
        let median = totals.quantile(0.5).unwrap();
        assert!((0.000_25..=0.000_5).contains(&median), "{median}");
        let late = totals.quantile(0.99).unwrap();
        assert!((0.25..=0.5).contains(&late), "{late}");
        totals.by_time[BUCKETS.len()] = 1000;
        assert_eq!(totals.quantile(0.99), Some(30.0), "or later");
    }
}
