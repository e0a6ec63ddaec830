//! Waiting for facts, and the only clock that tests have.

use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes so long, also on a busy machine: what is not true by then never will be.
pub const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and gives it back.
#[track_caller]
pub fn eventually<T>(failure: impl FnOnce() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        if Instant::now() >= deadline {
            panic!("not within {DEADLINE:?}: {}", failure());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Lets time pass where no fact can be awaited: a slow sender, or a limit that must not apply.
pub fn sleep_for(time: Duration, _reason: &str) {
    thread::sleep(time);
}

/// Tries something that has to overlap something else, with more and more time for it: on a busy
/// machine the first may be over too soon to show anything. `attempt` says whether it overlapped.
#[track_caller]
pub fn with_enough_time(mut attempt: impl FnMut(Duration) -> bool) {
    let times = [3, 12, 48].map(Duration::from_secs);
    let overlapped = times.into_iter().any(&mut attempt);
    assert!(overlapped, "over too soon, even with {times:?}");
}
