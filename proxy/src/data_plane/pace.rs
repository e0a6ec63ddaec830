//! The pace of one direction of a client's connection.
//!
//! Pure. It is judged in each sweep, and only while the client is awaited: what the app, or handoff,
//! is slow in counts for nobody.

use std::time::Duration;

use super::clock::Moment;
use super::settings::ClientLimits;

/// Time for which a client may be slower than the minimum rate at the beginning of a request.
pub(super) const GRACE: Duration = Duration::from_secs(20);

/// The pace of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Number of all bytes up to the last sweep.
    seen: u32,
    wait: Option<Wait>,
}

/// The wait for a client that is to send, or to take, more.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// The last sweep.
    judged: Moment,
    /// The first sweep since the last byte.
    progress: Moment,
    /// Bytes that the client is ahead of the minimum rate.
    credit: u64,
}

// === impl Pace ===

impl Pace {
    /// Begins anew: the next bytes are another request's.
    pub(super) fn restart(&mut self) {
        self.wait = None;
    }

    /// Returns `true` if the client is awaited and too slow: without a byte for the client timeout,
    /// or below the minimum rate. A client that was faster may stop for up to the client timeout.
    ///
    /// `total` is the number of all bytes so far; it may wrap around.
    pub(super) fn judge(
        &mut self,
        total: u32,
        is_awaited: bool,
        now: Moment,
        limits: &ClientLimits,
    ) -> bool {
        let moved = total.wrapping_sub(self.seen);
        self.seen = total;
        if !is_awaited {
            self.wait = None;
            return false;
        }
        let bytes_in = |time: Duration| {
            let bytes = u128::from(limits.min_rate) * time.as_millis() / 1_000;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        let Some(wait) = &mut self.wait else {
            self.wait = Some(Wait {
                judged: now,
                progress: now,
                credit: bytes_in(GRACE),
            });
            return false;
        };
        if moved > 0 {
            wait.progress = now;
        }
        let most = bytes_in(limits.timeout.max(GRACE));
        let due = bytes_in(now.since(wait.judged));
        let credit = wait.credit.saturating_add(moved.into()).min(most);
        wait.judged = now;
        wait.credit = credit.saturating_sub(due);
        credit < due || now.since(wait.progress) >= limits.timeout
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data_plane::clock::SWEEP_INTERVAL;

    pub(in crate::data_plane) const LIMITS: ClientLimits = ClientLimits {
        header_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(600),
        timeout: Duration::from_secs(60),
        min_rate: 240,
    };

    /// Returns the time until a client is too slow that passes `bytes(sweep)` before each sweep.
    fn time_until_too_slow(limits: &ClientLimits, bytes: impl Fn(u32) -> u32) -> Option<Duration> {
        let start = Moment::from_millis(u32::MAX - 10_000);
        let (mut pace, mut now, mut total) = (Pace::default(), start, u32::MAX - 1_000);
        pace.judge(total, false, now, limits);
        for sweep in 0..10_000 {
            total = total.wrapping_add(bytes(sweep));
            if pace.judge(total, true, now, limits) {
                return Some(now.since(start));
            }
            now = now.after(SWEEP_INTERVAL);
        }
        None
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough_after_the_grace_period() {
        let time = time_until_too_slow(&LIMITS, |sweep| u32::from(sweep % 10 == 0)).unwrap();
        assert!(
            time >= GRACE && time < GRACE + Duration::from_secs(2),
            "{time:?}"
        );
    }

    #[test]
    fn the_minimum_rate_is_enough_for_ever() {
        assert_eq!(time_until_too_slow(&LIMITS, |_| 120), None);
        // Also in bursts.
        assert_eq!(
            time_until_too_slow(&LIMITS, |sweep| if sweep % 30 == 0 { 3_600 } else { 0 }),
            None
        );
        assert!(time_until_too_slow(&LIMITS, |_| 110).is_some());
    }

    #[test]
    fn a_client_that_was_fast_may_stop_for_the_client_timeout() {
        let fast = |sweep| if sweep < 10 { 1 << 20 } else { 0 };
        let time = time_until_too_slow(&LIMITS, fast).unwrap();
        let stop = time - SWEEP_INTERVAL * 9;
        assert_eq!(stop, LIMITS.timeout);
        // It has no credit beyond that, whatever it sent before.
        let trickle = |sweep| if sweep < 10 { 1 << 20 } else { 1 };
        let time = time_until_too_slow(&LIMITS, trickle).unwrap();
        assert!(time < LIMITS.timeout + Duration::from_secs(10), "{time:?}");
    }

    #[test]
    fn without_a_minimum_rate_only_the_last_byte_counts() {
        let limits = ClientLimits {
            min_rate: 0,
            ..LIMITS
        };
        assert_eq!(
            time_until_too_slow(&limits, |sweep| u32::from(sweep % 100 == 0)),
            None
        );
        assert_eq!(time_until_too_slow(&limits, |_| 0), Some(LIMITS.timeout));
    }

    #[test]
    fn what_others_are_slow_in_does_not_count() {
        let (mut pace, mut now) = (Pace::default(), Moment::from_millis(1));
        for sweep in 0..10_000 {
            // Every ten seconds the client is awaited for ten.
            let is_awaited = sweep % 40 < 20;
            assert!(!pace.judge(0, is_awaited, now, &LIMITS), "{sweep}");
            now = now.after(SWEEP_INTERVAL);
        }
    }
}
