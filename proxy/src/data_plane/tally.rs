//! What the workers count, where somebody wants to know.
//!
//! Each worker has its own numbers, on cache lines of their own, and is the only one to write them:
//! an addition is a load and a store, without a lock and without another processor's leave. Whoever
//! asks adds them up ([`Tallies::read`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::release::Generation;
use crate::router::Class;

/// The upper ends of the buckets of the time to an answer's head, in seconds; one more has no end.
pub const BUCKETS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// Numbers of this many generations are kept, those of the latest; a deploy a minute for a year
/// shall not fill the memory, nor the one of who collects them.
const KEPT: usize = 8;

/// The numbers of all workers.
#[derive(Clone, Debug, Default)]
pub struct Tallies(Arc<Mutex<Vec<Arc<Shared>>>>);

/// One worker's hand on its own.
#[derive(Debug)]
pub(super) struct Tally {
    shared: Arc<Shared>,
    /// The latest is last, and nearly always the one that is meant.
    answers: RefCell<Vec<Arc<Answers>>>,
}

/// All that was counted so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// By the generation that answered; `None` is what was answered without one.
    pub answers: BTreeMap<Option<Generation>, Answered>,
    /// Requests that were sent again, as the app had closed the connection.
    pub sent_again: u64,
    /// Connections to the app that were not accepted, each of which was tried again.
    pub refused: u64,
    /// Requests that were cut because their release was replaced.
    pub evicted_requests: u64,
    /// Tunnels and event streams that were.
    pub evicted_tunnels: u64,
    /// Requests that may have reached the app, got no answer, and could not be sent again.
    pub unanswered: u64,
    /// Connections of clients that are open now.
    pub connections: usize,
}

/// The answers of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answered {
    /// 1xx to 5xx.
    pub by_class: [u64; 5],
    /// How many came within each of [`BUCKETS`] and not within the one before; and later.
    pub by_time: [u64; BUCKETS.len() + 1],
    /// All times together.
    pub time: Duration,
}

/// On a pair of cache lines, which processors fetch together.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    sent_again: AtomicU64,
    refused: AtomicU64,
    evicted_requests: AtomicU64,
    evicted_tunnels: AtomicU64,
    unanswered: AtomicU64,
    connections: Arc<AtomicUsize>,
    /// Locked by the worker only when it meets a new generation.
    answers: Mutex<Vec<Arc<Answers>>>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Answers {
    generation: Option<Generation>,
    by_class: [AtomicU64; 5],
    by_time: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

// === impl Tallies ===

impl Tallies {
    /// One more worker, which has so many connections.
    pub(super) fn worker(&self, connections: &Arc<AtomicUsize>) -> Tally {
        let shared = Arc::new(Shared {
            sent_again: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            evicted_requests: AtomicU64::new(0),
            evicted_tunnels: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            connections: Arc::clone(connections),
            answers: Mutex::default(),
        });
        lock(&self.0).push(Arc::clone(&shared));
        Tally {
            shared,
            answers: RefCell::default(),
        }
    }

    /// The sums at this moment.
    pub fn read(&self) -> Totals {
        let mut totals = Totals::default();
        for worker in lock(&self.0).iter() {
            totals.sent_again += read(&worker.sent_again);
            totals.refused += read(&worker.refused);
            totals.evicted_requests += read(&worker.evicted_requests);
            totals.evicted_tunnels += read(&worker.evicted_tunnels);
            totals.unanswered += read(&worker.unanswered);
            totals.connections += worker.connections.load(Ordering::Relaxed);
            for answers in lock(&worker.answers).iter() {
                let sum = totals.answers.entry(answers.generation).or_default();
                answers.add_to(sum);
            }
        }
        // A worker that has not met the latest generation keeps an older one that others forgot.
        while totals.answers.keys().flatten().count() > KEPT {
            let oldest = totals.answers.keys().find(|key| key.is_some()).copied();
            totals.answers.remove(&oldest.flatten());
        }
        totals
    }
}

// === impl Tally ===

impl Tally {
    /// Counts an answer, and how long its head took to come.
    pub(super) fn answered(&self, by: Option<Generation>, status: StatusCode, after: Duration) {
        let mut answers = self.answers.borrow_mut();
        let position = |answers: &[Arc<Answers>]| answers.iter().rposition(|a| a.generation == by);
        let known = position(&answers).or_else(|| {
            *answers = self.shared.meet(by);
            position(&answers)
        });
        // One that is older than all that are kept is not counted.
        if let Some(index) = known {
            answers[index].count(status, after);
        }
    }

    /// A request goes to the app a second time.
    pub(super) fn sends_again(&self) {
        add(&self.shared.sent_again, 1);
    }

    /// The app did not accept a connection.
    pub(super) fn was_refused(&self) {
        add(&self.shared.refused, 1);
    }

    /// So many of a class were cut.
    pub(super) fn evicted(&self, class: Class, count: u64) {
        match class {
            Class::Request => add(&self.shared.evicted_requests, count),
            Class::Tunnel => add(&self.shared.evicted_tunnels, count),
        }
    }

    /// A request may have reached the app, and is lost.
    pub(super) fn is_unanswered(&self) {
        add(&self.shared.unanswered, 1);
    }
}

// === impl Shared ===

impl Shared {
    /// One more generation, last among those that are kept.
    fn meet(&self, generation: Option<Generation>) -> Vec<Arc<Answers>> {
        let mut answers = lock(&self.answers);
        answers.push(Arc::new(Answers {
            generation,
            by_class: Default::default(),
            by_time: Default::default(),
            nanoseconds: AtomicU64::new(0),
        }));
        while answers.iter().filter(|a| a.generation.is_some()).count() > KEPT {
            let oldest = answers.iter().filter_map(|a| a.generation).min();
            answers.retain(|a| a.generation.is_none() || a.generation != oldest);
        }
        answers.clone()
    }
}

// === impl Answers ===

impl Answers {
    fn count(&self, status: StatusCode, after: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        add(&self.by_class[class], 1);
        let seconds = after.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end);
        add(&self.by_time[bucket.unwrap_or(BUCKETS.len())], 1);
        let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        add(&self.nanoseconds, nanoseconds);
    }

    fn add_to(&self, sum: &mut Answered) {
        for (sum, more) in sum.by_class.iter_mut().zip(&self.by_class) {
            *sum += read(more);
        }
        for (sum, more) in sum.by_time.iter_mut().zip(&self.by_time) {
            *sum += read(more);
        }
        sum.time += Duration::from_nanos(read(&self.nanoseconds));
    }
}

// === impl Answered ===

impl Answered {
    /// How many answers there were.
    pub fn all(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// What was added since then.
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

    /// In how many seconds this share of the answers came, as far as the buckets tell.
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

/// There is one writer, so nothing can come in between.
fn add(number: &AtomicU64, more: u64) {
    let sum = number.load(Ordering::Relaxed).wrapping_add(more);
    number.store(sum, Ordering::Relaxed);
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let tallies = Tallies::default();
        let connections = Arc::new(AtomicUsize::new(3));
        let workers = [tallies.worker(&connections), tallies.worker(&connections)];
        for worker in &workers {
            worker.answered(FIRST, StatusCode::OK, milliseconds(2));
            worker.answered(None, StatusCode::SERVICE_UNAVAILABLE, milliseconds(60_000));
            worker.answered(FIRST, StatusCode::NOT_FOUND, milliseconds(2));
            worker.sends_again();
            worker.was_refused();
            worker.evicted(Class::Request, 2);
            worker.evicted(Class::Tunnel, 1);
            worker.is_unanswered();
        }
        let totals = tallies.read();
        let first = totals.answers[&FIRST];
        assert_eq!(first.by_class, [0, 2, 0, 2, 0]);
        assert_eq!(first.by_time[3], 4, "1 to 2.5 ms: {first:?}");
        assert_eq!(first.time, milliseconds(8));
        let own = totals.answers[&None];
        assert_eq!(own.by_class, [0, 0, 0, 0, 2]);
        assert_eq!(own.by_time[BUCKETS.len()], 2);
        let others = [totals.sent_again, totals.refused, totals.unanswered];
        assert_eq!(others, [2, 2, 2]);
        assert_eq!([totals.evicted_requests, totals.evicted_tunnels], [4, 2]);
        assert_eq!(totals.connections, 6);
    }

    #[test]
    fn numbers_of_old_generations_go_and_our_own_stay() {
        let tallies = Tallies::default();
        let worker = tallies.worker(&Arc::default());
        worker.answered(None, StatusCode::BAD_REQUEST, Duration::ZERO);
        for generation in 1..=100 {
            let generation = Some(Generation(generation));
            worker.answered(generation, StatusCode::OK, Duration::ZERO);
        }
        let answers = tallies.read().answers;
        let kept: Vec<_> = answers.keys().flatten().map(|g| g.0).collect();
        assert_eq!(kept, Vec::from_iter(93..=100));
        assert_eq!(answers[&None].all(), 1);

        worker.answered(FIRST, StatusCode::OK, Duration::ZERO);
        let answers = tallies.read().answers;
        assert!(!answers.contains_key(&FIRST));
        let last = answers[&Some(Generation(100))].all();
        assert_eq!(last, 1, "it is not taken for another one's");

        // Another worker has slept since then.
        let worker = tallies.worker(&Arc::default());
        worker.answered(FIRST, StatusCode::OK, Duration::ZERO);
        assert!(!tallies.read().answers.contains_key(&FIRST));
    }

    #[test]
    fn a_share_of_the_answers_came_in_so_many_seconds() {
        let mut answered = Answered::default();
        assert_eq!(answered.quantile(0.5), None);
        answered.by_time[1] = 90;
        answered.by_time[10] = 10;
        let median = answered.quantile(0.5).unwrap();
        assert!((0.000_25..=0.000_5).contains(&median), "{median}");
        let late = answered.quantile(0.99).unwrap();
        assert!((0.25..=0.5).contains(&late), "{late}");
        answered.by_time[BUCKETS.len()] = 1000;
        assert_eq!(answered.quantile(0.99), Some(30.0), "or later");
    }
}
