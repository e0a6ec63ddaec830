//! A canary: the staged instance gets a share of new clients, until it is promoted or refused by its
//! errors.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Supervisor;
use super::instances::InstanceState;
use super::trial::ErrorShare;
use crate::control_plane::lifecycle::Event;
use crate::deployment::canary::{CanaryPlan, CanaryStage};
use crate::deployment::status::{CanaryStatus, Status, UnixMillis};
use crate::process::Launch;
use crate::release::Generation;
use crate::router::ResponseCounts;

/// Number of standard errors by which the shares of errors differ for certain: by chance they do so
/// once in a thousand times.
const CERTAINTY: f64 = 3.0;

/// The canary of one instance.
#[derive(Debug)]
pub(super) struct Canary {
    generation: Generation,
    plan: CanaryPlan,
    /// Number of the stage, from 0.
    stage: usize,
    since: Instant,
    until: UnixMillis,
    /// The active instance, and its numbers of responses and of errors when the canary began.
    active: Option<(Generation, (u64, u64))>,
    /// The responses to testers, which are not compared.
    testers: Arc<ResponseCounts>,
}

/// Numbers of responses and of errors, while both serve.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    canary: (u64, u64),
    active: (u64, u64),
}

// === impl Comparison ===

impl Comparison {
    /// Returns true if the canary has more errors for certain, by more than `max_rise` (0 to 1).
    fn is_worse(self, max_rise: f64) -> bool {
        let (canary, active) = (ErrorShare::of(self.canary), ErrorShare::of(self.active));
        let deviation = (canary.variance() + active.variance()).sqrt();
        canary.has_enough() && canary.share - active.share - max_rise > CERTAINTY * deviation
    }

    /// Describes both for a person.
    fn report(self) -> String {
        let (canary, active) = (ErrorShare::of(self.canary), ErrorShare::of(self.active));
        format!(
            "{:.1} % of its {} responses as a canary were errors, and {:.1} % of the {} of the active \
             release meanwhile",
            canary.share * 100.0,
            self.canary.0,
            active.share * 100.0,
            self.active.0
        )
    }
}

// === impl Supervisor ===

impl<L: Launch> Supervisor<L> {
    pub(super) fn begin_canary(
        &mut self,
        generation: Generation,
        plan: CanaryPlan,
        testers: Arc<ResponseCounts>,
    ) {
        let active = self.instances.active().map(|(active, _)| active);
        self.canary = Some(Canary {
            generation,
            plan,
            stage: 0,
            since: Instant::now(),
            until: UnixMillis::now(),
            active: active.map(|active| (active, self.instances.answers(active))),
            testers,
        });
        self.begin_canary_stage(0);
    }

    fn begin_canary_stage(&mut self, number: usize) {
        let Some(canary) = &mut self.canary else {
            return;
        };
        let stages = canary.plan.stages();
        let Some(stage) = stages.get(number).copied() else {
            return;
        };
        tracing::info!(
            event = "canary_stage_began",
            generation = canary.generation.0,
            share = stage.share(),
            stage = number + 1,
            stages = stages.len(),
            duration = %humantime::format_duration(stage.time),
            "the canary gets a share of new clients"
        );
        canary.stage = number;
        canary.since = Instant::now();
        canary.until = UnixMillis::from(SystemTime::now() + stage.time);
        self.router
            .set_share(canary.generation, stage.percent / 100.0);
    }

    /// Judges the canary, if there is one: about once a second.
    pub(super) fn judge_canary(&mut self) {
        let Some(comparison) = self.compare_canary() else {
            return;
        };
        let Some(canary) = &mut self.canary else {
            return;
        };
        let (generation, number) = (canary.generation, canary.stage);
        if self.instances.state_of(generation) != Some(InstanceState::Staged) {
            self.canary = None;
            return;
        }
        // Another instance has taken its place, and counts from zero.
        let active = self.instances.active().map(|(active, _)| active);
        if canary.active.map(|(before, _)| before) != active {
            canary.active = active.map(|active| (active, (0, 0)));
        }
        if comparison.is_worse(self.settings.bake_max_errors.unwrap_or_default()) {
            self.on(Event::TooManyErrors(generation));
            self.end_canary();
            return;
        }
        let stage = canary.plan.stages().get(number);
        let is_over = stage.is_none_or(|stage| canary.since.elapsed() >= stage.time);
        if !is_over || !ErrorShare::of(comparison.canary).has_enough() {
            return;
        }
        if number + 1 < canary.plan.stages().len() {
            return self.begin_canary_stage(number + 1);
        }
        tracing::info!(
            event = "canary_passed",
            generation = generation.0,
            figures = comparison.report(),
            "the canary has passed all stages, and serves everybody"
        );
        self.on(Event::CanaryPassed(generation));
        self.end_canary();
    }

    fn end_canary(&mut self) {
        self.canary = None;
        self.to_stage = None;
    }

    /// Describes the errors of the canary of this generation, if there is one.
    pub(super) fn report_canary(&self, generation: Generation) -> Option<String> {
        let canary = self.canary.as_ref();
        canary.filter(|canary| canary.generation == generation)?;
        self.compare_canary().map(Comparison::report)
    }

    /// Adds the canary to a status.
    pub(super) fn show_canary(&self, status: &mut Status) {
        let canary = self.canary.as_ref();
        let canary = canary.filter(|canary| {
            self.instances.state_of(canary.generation) == Some(InstanceState::Staged)
        });
        let (Some(canary), Some(comparison)) = (canary, self.compare_canary()) else {
            return;
        };
        let stages = canary.plan.stages();
        let (tester_responses, tester_errors) = canary.testers.read();
        status.canary = Some(CanaryStatus {
            stage: canary.stage + 1,
            stages: stages.len(),
            share: stages
                .get(canary.stage)
                .map(CanaryStage::share)
                .unwrap_or_default(),
            until_ms: canary.until,
            responses: comparison.canary.0,
            errors: comparison.canary.1,
            active_responses: comparison.active.0,
            active_errors: comparison.active.1,
            tester_responses,
            tester_errors,
        });
    }

    fn compare_canary(&self) -> Option<Comparison> {
        let canary = self.canary.as_ref()?;
        let active = canary.active.map_or((0, 0), |(active, before)| {
            let now = self.instances.answers(active);
            (
                now.0.saturating_sub(before.0),
                now.1.saturating_sub(before.1),
            )
        });
        Some(Comparison {
            canary: self.instances.answers(canary.generation),
            active,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::MIN_RESPONSES;
    use super::*;

    #[test]
    fn a_canary_is_worse_when_that_is_no_chance() {
        for (canary, active, max_rise, is_worse) in [
            // Too few to mean anything.
            (
                (MIN_RESPONSES - 1, MIN_RESPONSES - 1),
                (1000, 0),
                0.0,
                false,
            ),
            ((20, 20), (1000, 0), 0.0, true),
            ((20, 1), (1000, 0), 0.0, false),
            ((20, 20), (0, 0), 0.0, true),
            ((200, 4), (1000, 0), 0.0, false),
            ((500, 10), (9500, 0), 0.0, true),
            ((500, 10), (9500, 190), 0.0, false),
            ((500, 20), (9500, 190), 0.0, false),
            ((5000, 200), (9500, 190), 0.0, true),
            ((5000, 200), (9500, 190), 0.05, false),
            ((500, 0), (9500, 0), 0.0, false),
        ] {
            let comparison = Comparison { canary, active };
            assert_eq!(comparison.is_worse(max_rise), is_worse, "{comparison:?}");
        }
    }
}
