//! The time of a worker, which only its sweep reads.
//!
//! A request sets marks, and reads no clock. The next sweep finds a new mark and dates it, so that
//! no limit ends early, however late a busy worker sweeps.

use std::time::Duration;

use tokio::time::Instant;

/// Interval of the sweeps: the precision of every limit that is counted by marks.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum time that counts between two sweeps. A process that was halted for longer has not read
/// what its clients sent meanwhile.
const MAX_STEP: Duration = Duration::from_secs(5);

/// The clock of a worker.
#[derive(Debug)]
pub(super) struct Clock {
    read: Instant,
    now: Moment,
}

/// A moment, in milliseconds of a worker's clock. It is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u32);

/// The beginning of something that may last too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u32);

// === impl Clock ===

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            read: Instant::now(),
            now: Moment(1),
        }
    }

    /// Returns the moment of the last sweep.
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// Reads the time, at the beginning of a sweep.
    pub(super) fn advance(&mut self) -> Moment {
        let step = self.read.elapsed();
        self.read += step;
        self.now = self.now.after(step.min(MAX_STEP));
        self.now
    }
}

// === impl Moment ===

impl Moment {
    #[cfg(test)]
    pub(super) fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// Returns the moment `time` later.
    pub(super) fn after(self, time: Duration) -> Self {
        let step = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self(self.0.wrapping_add(step).max(1))
    }

    /// Returns the time from `earlier` to this moment.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.wrapping_sub(earlier.0).into())
    }
}

// === impl Mark ===

impl Mark {
    /// A mark that no sweep has seen yet.
    pub(super) const NEW: Self = Self(0);

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) const fn to_bits(self) -> u32 {
        self.0
    }

    /// Returns the mark with the date of the first sweep that sees it.
    pub(super) fn dated(self, now: Moment) -> Self {
        if self == Self::NEW { Self(now.0) } else { self }
    }

    /// Returns the time since the mark was dated.
    pub(super) fn age(self, now: Moment) -> Duration {
        now.since(Moment(self.dated(now).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_is_counted_however_seldom_a_worker_sweeps() {
        let mut clock = Clock::new();
        let begin = clock.advance();
        for step in [500, 2_000, 1] {
            tokio::time::advance(Duration::from_millis(step)).await;
            clock.advance();
        }
        assert_eq!(clock.advance().since(begin), Duration::from_millis(2_501));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_halted_does_not_take_its_own_time_for_that_of_others() {
        let mut clock = Clock::new();
        let begin = clock.advance();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(clock.advance().since(begin), MAX_STEP);
    }

    #[test]
    fn a_mark_ages_from_the_first_sweep_that_sees_it() {
        let mut now = Moment(u32::MAX - 400);
        let mark = Mark::NEW;
        assert_eq!(mark.age(now), Duration::ZERO);
        let mark = mark.dated(now);
        now = now.after(Duration::from_millis(500));
        assert_eq!(mark.dated(now), mark);
        assert_eq!(mark.age(now), Duration::from_millis(500));
    }
}
