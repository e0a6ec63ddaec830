//! Follows every live sidecar of a deployment until a command has its result.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(super) use self::report::{CommandOutcome, Report, SidecarReport};
pub(super) use self::step::{RefusalReport, Step};
pub(super) use self::upgrade::step_of_upgrade;
use super::progress::Progress;
use super::sidecars::Sidecars;
use crate::deployment::status::{Handoff, Outcome, Status};
use crate::release::Generation;

mod listed;
mod report;
mod step;
mod upgrade;
mod waiting;

/// Time between two readings of the sidecars' files.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time in which a heartbeat changes, for machines whose clocks differ.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The progress of each live sidecar.
pub(super) type Steps = BTreeMap<Arc<str>, Step>;

/// The launches of a sidecar before a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaunchesBefore {
    last: Generation,
    /// The launch in progress, whose outcome counts for a command that asks for the same.
    starting: Option<Generation>,
}

/// The sidecars of a deployment, and the steps that have been printed.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) sidecars: Sidecars,
    told: Steps,
}

// === impl LaunchesBefore ===

impl LaunchesBefore {
    /// Creates the launches of a sidecar that has made none.
    pub(super) fn none() -> Self {
        Self {
            last: Generation(0),
            starting: None,
        }
    }

    /// Creates the launches that a sidecar has published.
    pub(super) fn of(status: &Status) -> Self {
        let last = status.handoffs.back();
        let last = last.map_or(Generation(0), |handoff| handoff.generation);
        let starting = status.candidate.as_ref();
        Self {
            last,
            starting: starting.map(|candidate| candidate.generation),
        }
    }

    /// Returns true if the launch was made, or goes on, after the command.
    fn is_after(&self, handoff: &Handoff) -> bool {
        handoff.generation > self.last || handoff.outcome == Outcome::Starting
    }

    /// Returns true if the outcome of the launch is that of a command for the same release.
    fn counts(&self, handoff: &Handoff) -> bool {
        self.is_after(handoff) || self.starting == Some(handoff.generation)
    }
}

// === impl Follower ===

impl Follower {
    /// Creates a follower of the sidecars that publish in this state folder.
    pub(super) fn of(state: &Path) -> Self {
        Self {
            sidecars: Sidecars::of(state),
            told: Steps::new(),
        }
    }

    /// Waits until a sidecar is seen to be alive, or it is certain that none is.
    pub(super) fn await_live(&mut self) -> bool {
        let patience = Instant::now() + HEARTBEAT;
        loop {
            self.sidecars.refresh();
            if self.sidecars.live().next().is_some() {
                return true;
            }
            if self.sidecars.all().next().is_none() || Instant::now() >= patience {
                return false;
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Returns the launches of each sidecar so far.
    pub(super) fn launches(&self) -> BTreeMap<Arc<str>, LaunchesBefore> {
        self.sidecars
            .all()
            .map(|status| (Arc::clone(&status.sidecar), LaunchesBefore::of(status)))
            .collect()
    }

    /// Returns the progress of each live sidecar.
    pub(super) fn steps(&self, step: impl Fn(&Status) -> Step) -> Steps {
        self.sidecars
            .live()
            .map(|status| (Arc::clone(&status.sidecar), step(status)))
            .collect()
    }

    /// Prints the steps that are new.
    pub(super) fn tell(&mut self, steps: &Steps, progress: &mut Progress) {
        // The reason of a refusal is printed at the end.
        let steps = steps.iter().filter(|(_, step)| step.refusal().is_none());
        let steps: Vec<_> = steps.collect();
        let line = |id: &Arc<str>, step: &Step| format!("sidecar {id}: {step}");
        if progress.is_terminal() {
            let lines = steps
                .iter()
                .map(|(id, step)| (id.to_string(), line(id, step)));
            return progress.show(&lines.collect());
        }
        let due = progress.is_due();
        for (id, step) in &steps {
            let told = self.told.get(*id);
            if due || told.is_none_or(|told| step.is_news_after(told)) {
                progress.say(&format!("  {}", line(id, step)));
                self.told.insert(Arc::clone(id), (*step).clone());
            }
        }
        if due && steps.is_empty() {
            progress.say("  no sidecar runs any more: waiting for one");
        }
    }
}
