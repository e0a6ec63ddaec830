//! The end of a burst of connections, whose memory goes back to the system: they have been closed, or
//! parked.

/// Minimum number of connections of a worker that make a burst.
const MIN_BURST: usize = 500;
/// Minimum number of sweeps between two ends, a minute: to give memory back, and to get it again,
/// takes time.
const MIN_SWEEPS: u32 = 120;

/// The height of the present burst.
#[derive(Debug, Default)]
pub(super) struct Burst {
    peak: usize,
    last: usize,
    /// Number of connections that were parked since memory was given back.
    parked: usize,
    /// Number of sweeps before the end of another burst counts.
    pause: u32,
}

// === impl Burst ===

impl Burst {
    /// Returns `true` while a burst has not ended yet.
    pub(super) fn is_pending(&self) -> bool {
        self.peak - self.last >= MIN_BURST || self.parked >= MIN_BURST
    }

    /// Takes in the number of open connections at a sweep, and of those that were parked since the last
    /// one. Returns `true` at the end of a burst: most connections have ended, or many are parked, and no
    /// more do or are at present.
    pub(super) fn observe(&mut self, open: usize, parked: usize) -> bool {
        self.parked += parked;
        let falls = open < self.last || parked > 0;
        self.last = open;
        self.peak = self.peak.max(open);
        self.pause = self.pause.saturating_sub(1);
        let ended = self.peak - open;
        let have_ended = ended >= MIN_BURST && ended > self.peak / 2;
        let is_over = (have_ended || self.parked >= MIN_BURST) && !falls;
        if !is_over || self.pause > 0 {
            return false;
        }
        self.peak = open;
        self.parked = 0;
        self.pause = MIN_SWEEPS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_ends_once_when_most_connections_have_ended() {
        let mut burst = Burst::default();
        for open in [0, 1_000, 2_000, 1_500, 1_500, 900, 400] {
            assert!(!burst.observe(open, 0), "{open}");
        }
        assert!(burst.is_pending());
        assert!(burst.observe(400, 0));
        assert!(!burst.is_pending());
        assert!(!burst.observe(400, 0));
        // Not long after that it has to wait.
        for open in [2_000, 100, 100] {
            assert!(!burst.observe(open, 0), "{open}");
        }
        let ends = (0..2 * MIN_SWEEPS).filter(|_| burst.observe(100, 0));
        assert_eq!(ends.count(), 1);
    }

    #[test]
    fn a_burst_ends_also_when_many_connections_are_parked() {
        let mut burst = Burst::default();
        for parked in [0, MIN_BURST / 2, MIN_BURST / 2] {
            assert!(!burst.observe(2_000, parked), "{parked}");
        }
        assert!(burst.is_pending());
        assert!(burst.observe(2_000, 0));
        assert!(!burst.is_pending());
        assert!(!burst.observe(2_000, 0));
    }

    #[test]
    fn few_connections_are_no_burst() {
        let mut burst = Burst::default();
        for _ in 0..2 * MIN_SWEEPS {
            assert!(!burst.observe(MIN_BURST - 1, 0));
            assert!(!burst.observe(0, 0));
            assert!(!burst.observe(0, 0));
        }
    }
}
