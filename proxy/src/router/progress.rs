//! The progress of an app with its requests, as the sweeps of the workers see it.
//!
//! A request tells nobody that it waits: twice a second each worker looks at its connections anyway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The progress of one instance.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Vec<Arc<Mutex<Observation>>>>);

/// A look at an instance's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Time since which the oldest unanswered request has waited.
    pub unanswered_since: Option<Instant>,
    /// Time of the last answer.
    pub last_answer: Option<Instant>,
}

/// The part of one worker. Without it, the worker has no request that waits.
#[derive(Debug)]
pub struct WorkerProgress(Arc<Mutex<Observation>>);

// === impl Progress ===

impl Progress {
    /// Returns the part of one more worker.
    pub fn add_worker(&self) -> WorkerProgress {
        let mut all = self.0.lock();
        let mut unused = all.iter().filter(|one| Arc::strong_count(one) == 1);
        let part = unused.next().map(Arc::clone).unwrap_or_else(|| {
            let added = Arc::default();
            all.push(Arc::clone(&added));
            added
        });
        WorkerProgress(part)
    }

    /// Returns what the workers have seen last.
    pub fn read(&self) -> Observation {
        let mut sum = Observation::default();
        for part in &*self.0.lock() {
            let Observation {
                unanswered_since,
                last_answer,
            } = *part.lock();
            let oldest = [sum.unanswered_since, unanswered_since];
            sum.unanswered_since = oldest.into_iter().flatten().min();
            sum.last_answer = sum.last_answer.max(last_answer);
        }
        sum
    }
}

// === impl WorkerProgress ===

impl WorkerProgress {
    /// Records a look: the time for which the oldest request has waited, and whether there has been an
    /// answer since the last look.
    pub fn record(&self, oldest_wait: Option<Duration>, has_answered: bool) {
        let now = Instant::now();
        let mut seen = self.0.lock();
        seen.unanswered_since = oldest_wait.and_then(|wait| now.checked_sub(wait));
        if has_answered {
            seen.last_answer = Some(now);
        }
    }
}

impl Drop for WorkerProgress {
    fn drop(&mut self) {
        self.0.lock().unanswered_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_request_and_the_last_answer_of_all_workers_count() {
        let progress = Progress::default();
        let (one, other) = (progress.add_worker(), progress.add_worker());
        assert_eq!(progress.read(), Observation::default());
        one.record(Some(Duration::from_secs(5)), true);
        other.record(Some(Duration::from_secs(9)), false);
        let seen = progress.read();
        assert!(seen.unanswered_since.unwrap().elapsed() >= Duration::from_secs(9));
        assert!(seen.last_answer.is_some());
        drop(other);
        let seen = progress.read();
        assert!(seen.unanswered_since.unwrap().elapsed() < Duration::from_secs(9));
        one.record(None, false);
        let idle = progress.read();
        assert_eq!(
            (idle.unanswered_since, idle.last_answer),
            (None, seen.last_answer)
        );
        drop(one);
        let again: Vec<_> = (0..2).map(|_| progress.add_worker()).collect();
        assert_eq!(progress.0.lock().len(), again.len(), "parts are used again");
    }
}
