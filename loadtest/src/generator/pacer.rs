//! Due times of requests: a pure function of the rate, so that no clock is needed to test it.

use std::num::NonZeroU32;
use std::time::Duration;

/// A constant rate.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    rate: NonZeroU32,
}

/// The next step of the pacer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// The next request, which was due at this time from the start.
    Due(Duration),
    /// A wait: nothing is due for this time.
    Wait(Duration),
}

impl Pacer {
    /// Makes a pacer of `rate` requests a second.
    pub fn new(rate: NonZeroU32) -> Self {
        Self { rate }
    }

    /// Returns the next step, `elapsed` after the start, when `issued` requests have been issued.
    pub fn pace(self, elapsed: Duration, issued: u64) -> Pace {
        let due = self.due(issued);
        match due.checked_sub(elapsed) {
            None | Some(Duration::ZERO) => Pace::Due(due),
            Some(wait) => Pace::Wait(wait),
        }
    }

    /// Returns the due time of request `seq` (from 0). It is computed from the number and never added
    /// up, so that no rounding error grows.
    fn due(self, seq: u64) -> Duration {
        let rate = u64::from(self.rate.get());
        let nanos = seq % rate * 1_000_000_000 / rate;
        Duration::from_secs(seq / rate) + Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_request_is_due_at_its_number_over_the_rate() {
        let second = Duration::from_secs(1);
        let third = Duration::from_nanos(333_333_333);
        for (rate, elapsed, issued, expected) in [
            (1000, ms(0), 0, Pace::Due(ms(0))),
            (1000, ms(0), 1, Pace::Wait(ms(1))),
            (1000, ms(5), 1, Pace::Due(ms(1))),
            (1000, ms(5), 7, Pace::Wait(ms(2))),
            (1, 3 * second, 3, Pace::Due(3 * second)),
            (3, ms(0), 1, Pace::Wait(third)),
            (3, ms(0), 4, Pace::Wait(second + third)),
        ] {
            let pacer = Pacer::new(NonZeroU32::new(rate).unwrap());
            let pace = pacer.pace(elapsed, issued);
            assert_eq!(pace, expected, "{rate}/s, {elapsed:?}, {issued} issued");
        }
    }

    #[test]
    fn a_stall_delays_no_later_due_time() {
        let pacer = Pacer::new(NonZeroU32::new(1000).unwrap());
        // Ten seconds late, the next ten thousand requests are due at once, each at its own time.
        for seq in 0..10_000 {
            assert_eq!(pacer.pace(Duration::from_secs(10), seq), Pace::Due(ms(seq)));
        }
    }

    #[test]
    fn no_rounding_error_grows_in_a_year() {
        let pacer = Pacer::new(NonZeroU32::new(u32::MAX).unwrap());
        let year = 365 * 24 * 3600;
        let due = pacer.due(year * u64::from(u32::MAX));
        assert_eq!(due, Duration::from_secs(year));
    }
}
