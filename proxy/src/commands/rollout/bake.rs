//! The time for which the first members of a roll-out run the artifact before the others start it.

use std::time::Instant;

use crate::deployment::rollout::Rollout;

/// The begin of that time, once there was one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bake {
    begun: Option<Instant>,
}

// === impl Bake ===

impl Bake {
    /// Returns true if the others may start.
    pub fn is_over(self, rollout: &Rollout) -> bool {
        let is_over = |begun: Instant| begun.elapsed() >= rollout.bake();
        rollout.first == 0 || rollout.bake_ms == 0 || self.begun.is_some_and(is_over)
    }

    /// Begins it. Returns false if it had begun.
    pub fn begin(&mut self) -> bool {
        let is_new = self.begun.is_none();
        self.begun.get_or_insert_with(Instant::now);
        is_new
    }
}
