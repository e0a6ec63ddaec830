//! The way in which an app treats its connections, learnt from what it does.
//!
//! Some servers serve one connection at a time: Python's `HTTPServer` with HTTP/1.1, for example. A
//! second connection waits there until the first one is closed, be it idle or not, so that a request
//! of one worker waits for the connection that another worker keeps. Two facts decide:
//!
//! - A request on a new connection is answered while another one is kept: the app serves several.
//! - It is not answered, idle connections are closed, and the answer comes at once: it was blocked.
//!   Chance can do the same once to an app whose answers take long, but not [`PATIENCE`] times in a
//!   row, as the time before the close grows by more than the time that counts as "at once".
//!
//! Nothing is watched once the app is known to serve several, nor while no connection is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::release::Generation;

/// Times without an answer after which a request on a new connection may be blocked, by the number of
/// those that were.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(250),
];
/// Maximum time from the close of idle connections to the answer that they blocked.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Time without an answer after which idle connections are not closed again: the request is slow.
const MAX_PATIENCE: Duration = Duration::from_secs(2);

/// Knowledge of the app of one generation.
#[derive(Debug)]
pub(super) struct Habits {
    generation: Generation,
    /// Number of open connections that have served a request.
    kept: AtomicUsize,
    /// Number of idle connections that were closed for a request that seemed blocked.
    released: AtomicUsize,
    capacity: Mutex<Capacity>,
    idle_close: watch::Sender<()>,
}

/// The number of connections that an app serves at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capacity {
    /// Unknown; this many requests in a row were blocked.
    Unknown(usize),
    One,
    Several,
}

/// A connection among those that have served a request, counted until this is dropped.
#[derive(Debug)]
pub(super) struct KeptMark(Arc<Habits>);

/// The state of the first request on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstRequest {
    /// The app has the request, and has sent no response.
    Unanswered,
    /// The app has sent its response; now this many other connections are kept.
    Answered { others_kept: usize },
}

// === impl Habits ===

impl Habits {
    /// Returns the habits of an app of which nothing is known. `idle_close` asks all workers to close
    /// their idle connections.
    pub(super) fn new(generation: Generation, idle_close: watch::Sender<()>) -> Self {
        Self {
            generation,
            kept: AtomicUsize::new(0),
            released: AtomicUsize::new(0),
            capacity: Mutex::new(Capacity::Unknown(0)),
            idle_close,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Counts a connection that has served a request.
    pub(super) fn mark_kept(self: &Arc<Self>) -> KeptMark {
        self.kept.fetch_add(1, Ordering::Relaxed);
        KeptMark(Arc::clone(self))
    }

    /// Returns the number of open connections that have served a request.
    pub(super) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Counts idle connections that were closed as all workers were asked to.
    pub(super) fn count_released(&self, connections: usize) {
        self.released.fetch_add(connections, Ordering::Relaxed);
    }

    /// Returns `true` if the app serves one connection at a time.
    pub(super) fn is_single(&self) -> bool {
        *self.capacity.lock() == Capacity::One
    }

    /// Returns `true` if the next new connection can show something.
    pub(super) fn should_watch(&self) -> bool {
        self.kept() > 0 && matches!(*self.capacity.lock(), Capacity::Unknown(_))
    }

    fn released(&self) -> usize {
        self.released.load(Ordering::Relaxed)
    }

    fn patience(&self) -> Option<Duration> {
        match *self.capacity.lock() {
            Capacity::Unknown(blocked) => PATIENCE.get(blocked).copied(),
            Capacity::One | Capacity::Several => None,
        }
    }

    fn note_several(&self) {
        let mut capacity = self.capacity.lock();
        if matches!(*capacity, Capacity::Unknown(_)) {
            *capacity = Capacity::Several;
        }
    }

    fn note_unblocked(&self) {
        let mut capacity = self.capacity.lock();
        if let Capacity::Unknown(blocked) = &mut *capacity {
            *blocked = 0;
        }
    }

    fn note_blocked(&self) {
        let mut capacity = self.capacity.lock();
        let Capacity::Unknown(blocked) = &mut *capacity else {
            return;
        };
        *blocked += 1;
        if *blocked < PATIENCE.len() {
            return;
        }
        *capacity = Capacity::One;
        drop(capacity);
        self.idle_close.send_replace(());
        tracing::info!(
            event = "app_serves_one_connection",
            generation = %self.generation,
            "the app serves one connection at a time: from now on none is kept, and each request asks \
             the app to close its connection"
        );
    }
}

/// Watches the first request on a new connection, and learns from it. `first` returns its state while
/// the connection is open.
pub(super) async fn watch(habits: Arc<Habits>, first: impl Fn() -> Option<FirstRequest>) {
    let Some(mut patience) = habits.patience() else {
        return;
    };
    sleep(patience).await;
    if let Some(FirstRequest::Answered { others_kept: 1.. }) = first() {
        return habits.note_several();
    }
    while patience < MAX_PATIENCE && first() == Some(FirstRequest::Unanswered) {
        let released = habits.released();
        habits.idle_close.send_replace(());
        sleep(AT_ONCE).await;
        match first() {
            Some(FirstRequest::Answered { .. }) if habits.released() > released => {
                return habits.note_blocked();
            }
            Some(FirstRequest::Answered { .. }) | None => return,
            Some(FirstRequest::Unanswered) if habits.released() > released => {
                habits.note_unblocked();
            }
            Some(FirstRequest::Unanswered) => {}
        }
        patience *= 2;
        sleep(patience).await;
    }
}

// === impl KeptMark ===

impl Drop for KeptMark {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn habits() -> Arc<Habits> {
        Arc::new(Habits::new(Generation(1), watch::Sender::new(())))
    }

    /// Watches a request that is answered after this time. One idle connection is closed whenever
    /// that is asked for, and lets the app answer `blocked_for` later, if it was blocked.
    async fn watch_one(habits: &Arc<Habits>, after: Duration, blocked_for: Option<Duration>) {
        let start = Instant::now();
        let mut closes = habits.idle_close.subscribe();
        let answer = std::cell::Cell::new(start + after);
        let release = async {
            closes.changed().await.unwrap();
            habits.count_released(1);
            if let Some(late) = blocked_for {
                answer.set(Instant::now() + late);
            }
            std::future::pending::<()>().await;
        };
        let first = || {
            Some(if Instant::now() >= answer.get() {
                FirstRequest::Answered { others_kept: 1 }
            } else {
                FirstRequest::Unanswered
            })
        };
        tokio::select! {
            () = watch(Arc::clone(habits), first) => {}
            () = release => {}
        }
    }

    const NEVER: Duration = Duration::from_secs(1_000);
    const SOON: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn an_app_whose_answers_wait_for_a_close_serves_one_connection() {
        let habits = habits();
        for _ in 0..3 {
            assert!(!habits.is_single());
            watch_one(&habits, NEVER, Some(SOON)).await;
        }
        assert!(habits.is_single());
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_answers_beside_a_kept_connection_serves_several() {
        let habits = habits();
        watch_one(&habits, NEVER, Some(SOON)).await;
        watch_one(&habits, SOON, None).await;
        let _kept = habits.mark_kept();
        assert!(!habits.should_watch());
        for _ in 0..3 {
            watch_one(&habits, NEVER, Some(SOON)).await;
        }
        assert!(!habits.is_single());
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_takes_the_same_time_for_each_answer_is_never_taken_for_one_that_is_blocked()
     {
        for ms in (5..600).step_by(5) {
            let habits = habits();
            for _ in 0..6 {
                watch_one(&habits, Duration::from_millis(ms), None).await;
            }
            assert!(!habits.is_single(), "{ms} ms");
        }
    }

    #[test]
    fn nothing_is_watched_while_no_connection_is_kept() {
        let habits = habits();
        assert!(!habits.should_watch());
        let kept = habits.mark_kept();
        assert!(habits.should_watch());
        drop(kept);
        assert!(!habits.should_watch());
    }
}
