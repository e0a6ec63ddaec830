//! Counts of all launches: the status holds only the last fifty.

use std::collections::BTreeMap;

use crate::deployment::status::{Handoff, Outcome, Status, UnixMillis};
use crate::release::{Generation, ReleaseId};

/// Upper bounds of the buckets of a phase's duration, in seconds; the last bucket has none.
pub(super) const BUCKETS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Counts of the outcomes and the phases of launches.
#[derive(Clone, Debug, Default)]
pub(super) struct LaunchCounts {
    counted: BTreeMap<Generation, Counted>,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) phases: BTreeMap<&'static str, Durations>,
    /// Launches of the release that served or started last: after its end, or by a command.
    pub(super) restarts: u64,
    /// Instances that ended by themselves after they had been promoted.
    pub(super) crashes: u64,
    /// Release that was launched last.
    last: Option<ReleaseId>,
    /// Release that was promoted last.
    served: Option<ReleaseId>,
}

/// Durations of a phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Durations {
    /// Number of durations in each of [`BUCKETS`], and of longer ones.
    pub(super) counts: [u64; BUCKETS.len() + 1],
    /// Sum in seconds.
    pub(super) seconds: f64,
}

/// The outcomes and phases of a launch that have been counted.
#[derive(Clone, Debug, Default)]
struct Counted {
    outcomes: Vec<&'static str>,
    phases: Vec<&'static str>,
    has_crashed: bool,
}

// === impl LaunchCounts ===

impl LaunchCounts {
    /// Counts what is new in a status.
    pub(super) fn record(&mut self, status: &Status) {
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
        if handoff.has_crashed() && !std::mem::replace(&mut counted.has_crashed, true) {
            self.crashes += 1;
        }
        if let Some(outcome) = name(handoff.outcome)
            && !counted.outcomes.contains(&outcome)
        {
            counted.outcomes.push(outcome);
            *self.outcomes.entry(outcome).or_default() += 1;
        }
        for (phase, seconds) in phases(handoff) {
            if !counted.phases.contains(&phase) {
                counted.phases.push(phase);
                self.phases.entry(phase).or_default().add(seconds);
            }
        }
    }
}

/// Returns the label of an outcome; `None` while the launch starts.
fn name(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Promoted => Some("promoted"),
        Outcome::Refused => Some("refused"),
        Outcome::Failed => Some("failed"),
        Outcome::Abandoned => Some("abandoned"),
        Outcome::Starting | Outcome::Unknown => None,
    }
}

/// Returns the durations of the completed phases in seconds, in their order.
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

// === impl Durations ===

impl Durations {
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

    fn launch(status: &mut Status, release: &str, generation: u64) {
        let release = Release {
            id: ReleaseId::new(release),
            digest: Digest::parse(&"0".repeat(64)).unwrap(),
            shape: String::new(),
            artifact: PathBuf::new(),
            dir: PathBuf::new(),
        };
        let handoff = status.add_launch(&release, Generation(generation));
        handoff.launched_ms = UnixMillis(1000);
    }

    fn set_outcome(status: &mut Status, generation: u64, outcome: Outcome) {
        let handoff = status.handoff_mut(Generation(generation)).unwrap();
        handoff.outcome = outcome;
        if outcome == Outcome::Promoted {
            handoff.ready_ms = Some(UnixMillis(1250));
            handoff.promoted_ms = Some(UnixMillis(1250));
        }
    }

    #[test]
    fn an_outcome_and_a_phase_count_once() {
        let mut launches = LaunchCounts::default();
        let mut status = status();
        launch(&mut status, "v1", 1);
        launches.record(&status);
        assert!(launches.outcomes.is_empty(), "it starts");
        set_outcome(&mut status, 1, Outcome::Promoted);
        launches.record(&status);
        launches.record(&status);
        assert_eq!(launches.outcomes, BTreeMap::from([("promoted", 1)]));
        let start = &launches.phases["start"];
        assert_eq!((start.counts[4], start.seconds), (1, 0.25));
        assert!(!launches.phases.contains_key("drain"));

        set_outcome(&mut status, 1, Outcome::Refused);
        launches.record(&status);
        assert_eq!(launches.outcomes["refused"], 1, "after it had served");
    }

    #[test]
    fn a_crash_counts_once() {
        let mut launches = LaunchCounts::default();
        let mut status = status();
        for generation in [1, 2] {
            launch(&mut status, "v1", generation);
            set_outcome(&mut status, generation, Outcome::Promoted);
            launches.record(&status);
            status.handoff_mut(Generation(generation)).unwrap().crashes = 3;
            launches.record(&status);
            launches.record(&status);
            assert_eq!(launches.crashes, generation);
        }
    }

    #[test]
    fn a_restart_is_a_launch_of_what_ran_last() {
        let mut launches = LaunchCounts::default();
        let mut status = status();
        let promoted = ["v1", "v2", "v1", "v1"];
        for (generation, release) in (1..).zip(promoted) {
            launch(&mut status, release, generation);
            set_outcome(&mut status, generation, Outcome::Promoted);
            launches.record(&status);
        }
        assert_eq!(launches.restarts, 1, "only the last one");
        launch(&mut status, "v3", 5);
        set_outcome(&mut status, 5, Outcome::Refused);
        launches.record(&status);
        launch(&mut status, "v1", 6);
        launches.record(&status);
        assert_eq!(launches.restarts, 2, "what v3 did not replace has ended");
    }

    #[test]
    fn what_the_status_forgets_stays_counted() {
        let mut launches = LaunchCounts::default();
        let mut status = status();
        for generation in 1..=200 {
            launch(&mut status, &format!("v{generation}"), generation);
            set_outcome(&mut status, generation, Outcome::Promoted);
            launches.record(&status);
        }
        assert_eq!(launches.outcomes["promoted"], 200);
        assert_eq!(launches.counted.len(), status.handoffs.len());
    }
}
