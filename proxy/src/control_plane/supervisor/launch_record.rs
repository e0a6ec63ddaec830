//! The part of the journal about the cause and the end of each launch.

use std::time::Duration;

use super::handover::SETTLED;
use super::instances::InstanceState;
use super::journal::StatusJournal;
use super::releases::Accepted;
use crate::deployment::status::{LaunchCause, Outcome, UnixMillis};
use crate::release::Generation;

impl StatusJournal {
    /// Records the end of an instance in its own launch.
    pub(super) fn record_exit(&mut self, generation: Generation, state: InstanceState, exit: &str) {
        let handoffs = &self.status.handoffs;
        let Some(place) = handoffs.iter().position(|it| it.generation == generation) else {
            return;
        };
        let mut earlier = handoffs.iter().take(place).rev();
        let before = earlier.find(|it| it.release == handoffs[place].release);
        let in_a_row = before.map_or(0, |before| before.crashes);
        let now = UnixMillis::now();
        let handoff = &mut self.status.handoffs[place];
        let since = handoff.promoted_ms.unwrap_or(handoff.launched_ms);
        let time = Duration::from_millis(now.0.saturating_sub(since.0));
        let verb = match state {
            InstanceState::Stopping => "stopped",
            InstanceState::Candidate | InstanceState::Staged => "ended",
            InstanceState::Active
            | InstanceState::Pinned
            | InstanceState::Draining
            | InstanceState::Standby => {
                let others = if time < SETTLED { in_a_row } else { 0 };
                handoff.crashes = others.saturating_add(1);
                "crashed"
            }
        };
        let count = match handoff.crashes {
            0 | 1 => String::new(),
            crashes => format!(", crash {crashes} in a row"),
        };
        handoff.ended_ms = Some(now);
        handoff.end = Some(format!("{verb} after {} ({exit}){count}", rounded(time)));
    }

    /// Returns the reason for a launch of a release that nobody asked for otherwise.
    pub(super) fn cause_of_deploy(&self, accepted: &Accepted) -> LaunchCause {
        let handoffs = &self.status.handoffs;
        let Some(last) = handoffs.back() else {
            return LaunchCause::Start;
        };
        let release = &accepted.release.id;
        let is_known = handoffs.iter().any(|handoff| handoff.release == *release);
        // What an earlier sidecar ran has no source until it is deployed again.
        let is_new = !is_known && accepted.source.is_some();
        let ended = handoffs.iter().max_by_key(|handoff| handoff.ended_ms);
        let last_change = ended
            .and_then(|ended| ended.ended_ms)
            .max(Some(last.launched_ms));
        if is_new || Some(accepted.detected.into()) > last_change {
            return LaunchCause::Artifact;
        }
        match ended {
            Some(ended) if ended.has_crashed() => LaunchCause::Crash,
            Some(ended) if ended.outcome == Outcome::Failed => LaunchCause::FailedStart,
            Some(_) | None => LaunchCause::Artifact,
        }
    }
}

/// Returns a duration as a person reads it: `820ms`, `12s`.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    let unit = if time < Duration::from_secs(1) {
        1
    } else {
        1_000
    };
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis / unit * unit))
}
