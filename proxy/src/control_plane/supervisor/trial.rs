//! The trial of a release that has just taken over, with the release before on standby.

use std::time::SystemTime;

use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::lifecycle::Event;
use crate::deployment::status::UnixMillis;
use crate::os::memory::is_short_of_memory;
use crate::process::Launch;
use crate::release::Generation;

/// Number of responses below which their share of errors means nothing.
pub(super) const MIN_RESPONSES: u64 = 20;

/// The trial of one instance.
#[derive(Debug)]
pub(super) struct Trial {
    generation: Generation,
    /// Share of errors of the superseded instance, when the trial began.
    before: ErrorShare,
    _end: Timer,
}

/// The share of errors among the responses of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ErrorShare {
    responses: u64,
    /// Errors divided by responses, 0 to 1.
    pub(super) share: f64,
}

// === impl Trial ===

impl Trial {
    /// Returns true if the errors have risen by more than `max_rise` (0 to 1) since the release
    /// before.
    fn has_failed(&self, now: ErrorShare, max_rise: f64) -> bool {
        now.has_enough() && now.share > self.before.share + max_rise
    }

    /// Describes the errors for a person.
    pub(super) fn report(&self, now: ErrorShare) -> String {
        format!(
            "{:.1} % of its {} responses during the trial were errors, and {:.1} % of those of the \
             release before",
            now.share * 100.0,
            now.responses,
            self.before.share * 100.0
        )
    }
}

// === impl ErrorShare ===

impl ErrorShare {
    /// Computes the share from the numbers of all responses and of errors.
    pub(super) fn of((responses, errors): (u64, u64)) -> Self {
        Self {
            responses,
            share: errors as f64 / responses.max(1) as f64,
        }
    }

    /// Returns true if there are enough responses for the share to mean anything.
    pub(super) fn has_enough(self) -> bool {
        self.responses >= MIN_RESPONSES
    }

    /// Returns the variance of the share, as that of a sample.
    pub(super) fn variance(self) -> f64 {
        self.share * (1.0 - self.share) / self.responses.max(1) as f64
    }
}

// === impl Supervisor ===

impl<L: Launch> Supervisor<L> {
    pub(super) fn begin_trial(&mut self, generation: Generation) {
        let bake = self.settings.bake;
        tracing::info!(
            event = "trial_began",
            generation = generation.0,
            duration = %humantime::format_duration(bake),
            "the new release is on trial"
        );
        let handoff = self.journal.status.handoff_mut(generation);
        let superseded = handoff.and_then(|handoff| handoff.superseded_generation);
        let before = superseded.map(|superseded| self.instances.error_share(superseded));
        let end = Message::Lifecycle(Event::TrialEnded(generation));
        self.trial = Some(Trial {
            generation,
            before: before.unwrap_or_default(),
            _end: self.send_after(bake, end),
        });
        let until = SystemTime::now() + bake;
        self.journal.status.bakes_until_ms = Some(UnixMillis::from(until));
    }

    /// Judges the trial, if there is one: about once a second.
    pub(super) fn judge_trial(&mut self) {
        let Some(trial) = &self.trial else {
            return;
        };
        let generation = trial.generation;
        if self.lifecycle.on_trial() != Some(generation) {
            self.trial = None;
            self.journal.status.bakes_until_ms = None;
            return;
        }
        if is_short_of_memory() {
            tracing::warn!(
                event = "trial_cut_short",
                generation = generation.0,
                "the trial ends and its standby stops: memory is short"
            );
            return self.on(Event::TrialEnded(generation));
        }
        let now = self.instances.error_share(generation);
        let max_rise = self.settings.bake_max_errors;
        if max_rise.is_some_and(|max_rise| trial.has_failed(now, max_rise)) {
            self.on(Event::TooManyErrors(generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_fails_when_the_share_of_errors_rises_among_enough_responses() {
        let trial = Trial {
            generation: Generation(2),
            before: ErrorShare::of((1000, 10)),
            _end: Timer::default(),
        };
        for (responses, errors, has_failed) in [(19, 19, false), (20, 1, false), (20, 2, true)] {
            let now = ErrorShare::of((responses, errors));
            assert_eq!(trial.has_failed(now, 0.05), has_failed, "{now:?}");
        }
        let report = trial.report(ErrorShare::of((20, 2)));
        assert!(report.starts_with("10.0 % of its 20 responses"), "{report}");
        assert!(report.contains("and 1.0 % of those"), "{report}");
    }
}
