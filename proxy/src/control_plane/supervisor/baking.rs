//! The trial of a release that has just taken over, with the one before at hand.

use super::super::lifecycle::Event;
use super::{Message, Supervisor, Timer};
use crate::deployment::status::UnixMillis;
use crate::os::memory::is_short_of_memory;
use crate::process::Launch;
use crate::release::Generation;

/// Fewer answers than this say nothing about their share of errors.
const ENOUGH_ANSWERS: u64 = 20;

/// The release that bakes now.
#[derive(Debug)]
pub(super) struct Trial {
    generation: Generation,
    /// The share of errors of the one before.
    before: f64,
    _end: Timer,
}

impl<L: Launch> Supervisor<L> {
    pub(super) fn bake(&mut self, generation: Generation) {
        let bake = self.settings.bake;
        tracing::info!(%generation, ?bake, "on trial");
        let handoff = self.status.handoff(generation);
        let superseded = handoff.and_then(|handoff| handoff.superseded_generation);
        let end = Message::Happened(Event::BakeOver(generation));
        self.trial = Some(Trial {
            generation,
            before: superseded.map_or(0.0, |generation| self.share_of_errors(generation).1),
            _end: self.later(bake, end),
        });
        let until = std::time::SystemTime::now() + bake;
        self.status.bakes_until_ms = Some(UnixMillis::from(until));
    }

    /// Once a second or so.
    pub(super) fn look_at_the_trial(&mut self) {
        let Some(trial) = &self.trial else {
            return;
        };
        let (generation, before) = (trial.generation, trial.before);
        if self.lifecycle.baking() != Some(generation) {
            self.trial = None;
            self.status.bakes_until_ms = None;
            return;
        }
        if is_short_of_memory() {
            tracing::warn!(%generation, "no standby is kept: memory is short");
            return self.on(Event::BakeOver(generation));
        }
        let (answers, share) = self.share_of_errors(generation);
        if let Some(more) = self.settings.bake_max_errors
            && answers >= ENOUGH_ANSWERS
            && share > before + more
        {
            self.on(Event::Spoiled(generation));
        }
    }

    /// In words, why a release was not good enough.
    pub(super) fn trial_report(&self, generation: Option<Generation>) -> Option<String> {
        let (answers, share) = self.share_of_errors(generation?);
        let before = self.trial.as_ref()?.before;
        Some(format!(
            "{:.1} % of its {answers} answers while it was on trial were errors, and {:.1} % of \
             those of the release before",
            share * 100.0,
            before * 100.0
        ))
    }

    /// How many answers an instance has given, and the share of errors among them.
    fn share_of_errors(&self, generation: Generation) -> (u64, f64) {
        let instance = self.instances.get(&generation);
        let answers = instance.and_then(|instance| instance.answers.as_ref());
        let (all, errors) = answers.map_or((0, 0), |answers| answers.read());
        (all, errors as f64 / all.max(1) as f64)
    }
}
