//! What became of the launches, counted: the status remembers the last fifty only.

use std::collections::BTreeMap;

use crate::deployment::status::{Handoff, Outcome, Status, UnixMillis};
use crate::release::{Generation, ReleaseId};

/// The upper ends of the buckets of a phase's length, in seconds; one more has no end.
pub(super) const BUCKETS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// The counts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Launches {
    counted: BTreeMap<Generation, Counted>,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) phases: BTreeMap<&'static str, Lengths>,
    /// Launches of a release that served or started last: it had ended, or somebody asked for it.
    pub(super) restarts: u64,
    /// What was launched last, and what got the requests last.
    last: Option<ReleaseId>,
    served: Option<ReleaseId>,
}

/// How long a phase took, each time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lengths {
    /// How many were within each of [`BUCKETS`] and not within the one before; and longer.
    pub(super) counts: [u64; BUCKETS.len() + 1],
    /// All of them together, in seconds.
    pub(super) seconds: f64,
}

/// What of a launch has been counted.
#[derive(Clone, Debug, Default)]
struct Counted {
    outcomes: Vec<&'static str>,
    phases: Vec<&'static str>,
}

// === impl Launches ===

impl Launches {
    /// Counts what is new.
    pub(super) fn look_at(&mut self, status: &Status) {
        for handoff in &status.handoffs {
            if !self.counted.contains_key(&handoff.generation) {
                let release = Some(&handoff.release);
                if release == self.last.as_ref() || release == self.served.as_ref() {
                    self.restarts += 1;
                }
                self.last = release.cloned();
            }
            if handoff.promoted_ms.is_some() {
                self.served = Some(handoff.release.clone());
            }
            self.count(handoff);
        }
        let oldest = status.handoffs.front().map(|handoff| handoff.generation);
        self.counted
            .retain(|generation, _| Some(*generation) >= oldest);
    }

    fn count(&mut self, handoff: &Handoff) {
        let counted = self.counted.entry(handoff.generation).or_default();
        if let Some(outcome) = name(handoff.outcome)
            && !counted.outcomes.contains(&outcome)
        {
            counted.outcomes.push(outcome);
            *self.outcomes.entry(outcome).or_default() += 1;
        }
        for (phase, length) in phases(handoff) {
            if !counted.phases.contains(&phase) {
                counted.phases.push(phase);
                self.phases.entry(phase).or_default().add(length);
            }
        }
    }
}

/// What becomes of a launch; `None` while it starts.
fn name(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Promoted => Some("promoted"),
        Outcome::Refused => Some("refused"),
        Outcome::Failed => Some("failed"),
        Outcome::Abandoned => Some("abandoned"),
        Outcome::Starting | Outcome::Unknown => None,
    }
}

/// The phases that are over, in their order, in seconds.
fn phases(handoff: &Handoff) -> impl Iterator<Item = (&'static str, f64)> {
    let ends = [
        ("copy", handoff.detected_ms, handoff.copied_ms),
        ("start", Some(handoff.launched_ms), handoff.ready_ms),
        ("promote", handoff.ready_ms, handoff.promoted_ms),
        ("drain", handoff.promoted_ms, handoff.drained_ms),
        ("stop", handoff.drained_ms, handoff.stopped_ms),
    ];
    let seconds = |from: UnixMillis, to: UnixMillis| to.0.saturating_sub(from.0) as f64 / 1000.0;
    ends.into_iter()
        .filter_map(move |(phase, from, to)| Some((phase, seconds(from?, to?))))
}

// === impl Lengths ===

impl Lengths {
    fn add(&mut self, seconds: f64) {
        let bucket = BUCKETS.iter().position(|end| seconds <= *end);
        self.counts[bucket.unwrap_or(BUCKETS.len())] += 1;
        self.seconds += seconds;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::PathBuf;

    use super::*;
    use crate::deployment::status::SourceStatus;
    use crate::release::{Digest, Release};

    fn status() -> Status {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        Status::new("a".into(), listen, SourceStatus::default())
    }

    fn launched(status: &mut Status, release: &str, generation: u64) {
        let release = Release {
            id: ReleaseId::new(release),
            digest: Digest::parse(&"0".repeat(64)).unwrap(),
            artifact: PathBuf::new(),
            dir: PathBuf::new(),
        };
        let handoff = status.add_launch(&release, Generation(generation));
        handoff.launched_ms = UnixMillis(1000);
    }

    fn become_(status: &mut Status, generation: u64, outcome: Outcome) {
        let handoff = status.handoff_mut(Generation(generation)).unwrap();
        handoff.outcome = outcome;
        if outcome == Outcome::Promoted {
            handoff.ready_ms = Some(UnixMillis(1250));
            handoff.promoted_ms = Some(UnixMillis(1250));
        }
    }

    #[test]
    fn an_outcome_and_a_phase_count_once() {
        let mut launches = Launches::default();
        let mut status = status();
        launched(&mut status, "v1", 1);
        launches.look_at(&status);
        assert!(launches.outcomes.is_empty(), "it starts");
        become_(&mut status, 1, Outcome::Promoted);
        launches.look_at(&status);
        launches.look_at(&status);
        assert_eq!(launches.outcomes, BTreeMap::from([("promoted", 1)]));
        let start = &launches.phases["start"];
        assert_eq!((start.counts[4], start.seconds), (1, 0.25));
        assert!(!launches.phases.contains_key("drain"));

        become_(&mut status, 1, Outcome::Refused);
        launches.look_at(&status);
        assert_eq!(launches.outcomes["refused"], 1, "after it had served");
    }

    #[test]
    fn a_restart_is_a_launch_of_what_ran_last() {
        let mut launches = Launches::default();
        let mut status = status();
        let promoted = ["v1", "v2", "v1", "v1"];
        for (generation, release) in (1..).zip(promoted) {
            launched(&mut status, release, generation);
            become_(&mut status, generation, Outcome::Promoted);
            launches.look_at(&status);
        }
        assert_eq!(launches.restarts, 1, "only the last one");
        launched(&mut status, "v3", 5);
        become_(&mut status, 5, Outcome::Refused);
        launches.look_at(&status);
        launched(&mut status, "v1", 6);
        launches.look_at(&status);
        assert_eq!(launches.restarts, 2, "what v3 did not replace has ended");
    }

    #[test]
    fn what_the_status_forgets_stays_counted() {
        let mut launches = Launches::default();
        let mut status = status();
        for generation in 1..=200 {
            launched(&mut status, &format!("v{generation}"), generation);
            become_(&mut status, generation, Outcome::Promoted);
            launches.look_at(&status);
        }
        assert_eq!(launches.outcomes["promoted"], 200);
        assert_eq!(launches.counted.len(), status.handoffs.len());
    }
}
