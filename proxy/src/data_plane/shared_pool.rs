//! State that the pools of all workers share: the number of their connections, and what is known of
//! each app's habits.
//!
//! It is touched when a connection is opened or closed, never in a request on a kept one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::habits::Habits;
use crate::release::Generation;

/// Number of generations whose habits are remembered; more are never routed to.
const REMEMBERED: usize = 8;

/// State that the pools of all workers share.
#[derive(Debug)]
pub(super) struct SharedPool {
    max: usize,
    open: AtomicUsize,
    /// The last generations', the newest last. An app's habits outlast its connections.
    habits: Mutex<VecDeque<Arc<Habits>>>,
    idle_close: watch::Sender<()>,
}

/// A connection to the app, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<SharedPool>);

// === impl SharedPool ===

impl SharedPool {
    /// Returns the state for at most `max` connections.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: AtomicUsize::new(0),
            habits: Mutex::default(),
            idle_close: watch::Sender::new(()),
        }
    }

    /// Returns a place for one more connection, unless there are too many.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Place> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        (open < self.max).then_some(place)
    }

    /// Returns `true` if there is no place for one more connection.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.max
    }

    /// Returns what is known of the app of a generation, the same to each worker.
    pub(super) fn habits_of(&self, generation: Generation) -> Arc<Habits> {
        let mut all = self.habits.lock();
        if let Some(habits) = all.iter().find(|habits| habits.generation() == generation) {
            return Arc::clone(habits);
        }
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        let habits = Arc::new(Habits::new(generation, self.idle_close.clone()));
        all.push_back(Arc::clone(&habits));
        habits
    }

    /// Returns a receiver that changes when all workers are to close their idle connections.
    pub(super) fn idle_closes(&self) -> watch::Receiver<()> {
        self.idle_close.subscribe()
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_place_for_each_connection_up_to_the_maximum() {
        let shared = Arc::new(SharedPool::new(2));
        let first = shared.take_place().unwrap();
        let _second = shared.take_place().unwrap();
        assert!(shared.is_full());
        assert!(shared.take_place().is_none());
        drop(first);
        assert!(!shared.is_full());
        assert!(shared.take_place().is_some());
    }

    #[test]
    fn workers_know_the_same_of_the_last_generations() {
        let shared = SharedPool::new(1);
        let first = shared.habits_of(Generation(1));
        for generation in 1..=REMEMBERED as u64 {
            shared.habits_of(Generation(generation));
        }
        assert!(Arc::ptr_eq(&first, &shared.habits_of(Generation(1))));
        shared.habits_of(Generation(0));
        assert!(!Arc::ptr_eq(&first, &shared.habits_of(Generation(1))));
    }
}
