//! Following every live sidecar of a deployment to its verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(super) use self::report::{Outcome, Report, SidecarReport};
pub(super) use self::step::{Refusal, Step};
use super::progress::Progress;
use super::sidecars::Sidecars;
use crate::deployment::status::Status;
use crate::release::Generation;

mod report;
mod step;

/// How often the sidecars' files are read.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// For a heartbeat to be seen to move, where clocks do not agree.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How far each live sidecar is.
pub(super) type Steps = BTreeMap<Arc<str>, Step>;

/// The sidecars of a deployment, and what has been told of them.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) sidecars: Sidecars,
    told: Steps,
}

// === impl Following ===

impl Following {
    /// Those that publish in this state folder; none has been looked at.
    pub(super) fn of(state: &Path) -> Self {
        Self {
            sidecars: Sidecars::of(state),
            told: Steps::new(),
        }
    }

    /// Looks for sidecars that live, as long as one may yet be seen to.
    pub(super) fn finds_live(&mut self) -> bool {
        let patience = Instant::now() + HEARTBEAT;
        loop {
            self.sidecars.look();
            if self.sidecars.live().next().is_some() {
                return true;
            }
            if self.sidecars.all().next().is_none() || Instant::now() >= patience {
                return false;
            }
            sleep(LOOK);
        }
    }

    /// The last launch of each sidecar.
    pub(super) fn launches(&self) -> BTreeMap<Arc<str>, Generation> {
        let last = |status: &Status| status.handoffs.back().map(|handoff| handoff.generation);
        self.sidecars
            .all()
            .filter_map(|status| Some((Arc::clone(&status.sidecar), last(status)?)))
            .collect()
    }

    /// How far each live sidecar is.
    pub(super) fn steps(&self, step: impl Fn(&Status) -> Step) -> Steps {
        self.sidecars
            .live()
            .map(|status| (Arc::clone(&status.sidecar), step(status)))
            .collect()
    }

    /// Says what is new.
    pub(super) fn tell(&mut self, steps: &Steps, progress: &mut Progress) {
        // Its reason comes with the verdict.
        let steps = steps.iter().filter(|(_, step)| step.refusal().is_none());
        let steps: Vec<_> = steps.collect();
        let line = |id: &Arc<str>, step: &Step| format!("sidecar {id}: {step}");
        if progress.shows() {
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
