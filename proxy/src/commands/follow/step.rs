//! The progress of one sidecar with a command. Pure.

use std::fmt;

use serde::Serialize;

use super::LaunchesBefore;
use super::waiting::reason_to_wait;
use crate::commands::count;
use crate::deployment::status::{Failure, Handoff, Outcome, Status};
use crate::release::{Generation, ReleaseId};

/// Number of failures after which a command gives up. Without another release to serve, a sidecar
/// tries again for ever.
const ENOUGH: usize = 3;

/// The progress of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub(in crate::commands) enum Step {
    /// The sidecar has not launched the release.
    Waiting {
        /// Reason why it cannot be launched, if known.
        problem: Option<String>,
    },
    /// The process runs.
    Starting,
    /// The health check does not succeed yet.
    Probing {
        /// Message of the last health check.
        probe: String,
    },
    /// The health check has succeeded.
    Ready,
    /// The release awaits its promotion.
    Staged,
    /// The release gets a share of new clients.
    Canary {
        /// That share.
        share: String,
        /// Number of the stage, from 1.
        stage: usize,
        /// Number of stages.
        stages: usize,
    },
    /// The staged release is given up.
    GivenUp,
    /// The release receives the requests; others finish theirs.
    Promoted {
        /// Instances with unfinished requests.
        draining: Vec<Draining>,
    },
    /// The release receives the requests, and nothing else has any.
    Done,
    /// The release failed, and is tried again, since there is nothing else to serve.
    Failing {
        /// Reason of the last failure.
        reason: String,
    },
    /// The release failed and is not tried again, or the command cannot be executed.
    Refused(RefusalReport),
    /// Another command or release has taken the place of this one.
    Superseded(RefusalReport),
    /// New requests are held, and others have not ended.
    Pausing {
        /// Number of requests in flight, without tunnels.
        requests: usize,
    },
    /// New requests are held, and no request is in flight.
    Paused,
    /// New requests are not held.
    Resumed,
    /// New requests are refused.
    InMaintenance,
    /// New requests are not refused.
    NotInMaintenance,
    /// Another process of handoff has taken over.
    Upgraded,
}

/// An instance that drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct Draining {
    pub(in crate::commands) release: ReleaseId,
    pub(in crate::commands) requests: usize,
    pub(in crate::commands) tunnels: usize,
    /// Number of clients whose sessions go on there; `None` without such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) sessions: Option<usize>,
}

/// The reason of a refusal, as far as the sidecar still has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct RefusalReport {
    pub(in crate::commands) reason: String,
    pub(in crate::commands) error: Option<String>,
    pub(in crate::commands) exit: Option<String>,
    pub(in crate::commands) probe: Option<String>,
    pub(in crate::commands) output: Vec<String>,
}

// === impl Step ===

impl Step {
    /// Returns the progress with the release of this digest; launches that had ended before do not
    /// count.
    pub(in crate::commands) fn of(status: &Status, digest: &str, before: LaunchesBefore) -> Self {
        let is_active = status.active.as_ref().is_some_and(|a| a.digest == digest);
        let is_ours = |handoff: &Handoff| handoff.digest == digest && before.counts(handoff);
        let step = Self::towards(status, is_active, is_ours, ENOUGH);
        if status.artifact_refused.as_deref() == Some(digest)
            && let Self::Waiting {
                problem: Some(problem),
            } = &step
        {
            return Self::impossible(problem);
        }
        step
    }

    /// Returns the progress with a new instance in place of `active`.
    pub(in crate::commands) fn of_restart(
        status: &Status,
        active: Generation,
        before: LaunchesBefore,
    ) -> Self {
        let serves = status.active.as_ref();
        let is_new = serves.is_some_and(|serves| serves.generation > active);
        // A launch of the same release that had begun is the restart. If that of another one does
        // not serve, the restart follows.
        let is_same =
            |handoff: &Handoff| serves.is_some_and(|serves| serves.digest == handoff.digest);
        let is_ours = |handoff: &Handoff| {
            before.is_after(handoff) || is_same(handoff) && before.counts(handoff)
        };
        // A sidecar that serves does not try a restart again, but for a fault of the machine.
        let enough = if serves.is_some() { 1 } else { ENOUGH };
        Self::towards(status, is_new, is_ours, enough)
    }

    /// Returns the progress with a rollback.
    pub(in crate::commands) fn of_rollback(
        status: &Status,
        to: &ReleaseId,
        before: LaunchesBefore,
    ) -> Self {
        let is_active = status.active.as_ref().is_some_and(|a| a.release == *to);
        let is_ours = |handoff: &Handoff| handoff.release == *to && before.counts(handoff);
        Self::towards(status, is_active, is_ours, ENOUGH)
    }

    /// Returns the progress with the promotion of an instance that is, or was to be, staged.
    pub(in crate::commands) fn of_promote(status: &Status, staged: Generation) -> Self {
        let active = status.active.as_ref();
        let is_active = active.is_some_and(|active| active.generation == staged);
        let is_ours = |handoff: &Handoff| handoff.generation == staged;
        let step = Self::towards(status, is_active, is_ours, 1);
        let mut all = status.handoffs.iter();
        if all.any(|it| is_ours(it) && it.outcome == Outcome::Abandoned) {
            return Self::impossible("another release was deployed, or one was rolled back to");
        }
        step
    }

    /// Returns the progress with giving up an instance that is, or was to be, staged.
    pub(in crate::commands) fn of_abort(status: &Status, staged: Generation) -> Self {
        let active = status.active.as_ref();
        if active.is_some_and(|active| active.generation == staged) {
            return Self::impossible("it was promoted");
        }
        let left = [&status.staged, &status.candidate].into_iter().flatten();
        match left.into_iter().find(|left| left.generation == staged) {
            Some(_) => Self::Waiting { problem: None },
            None => Self::GivenUp,
        }
    }

    /// Returns the progress with a pause.
    pub(in crate::commands) fn of_pause(status: &Status) -> Self {
        if status.paused.is_none() {
            return Self::Resumed;
        }
        let one = [
            &status.active,
            &status.candidate,
            &status.staged,
            &status.standby,
        ];
        let all = one.into_iter().flatten();
        let all = all.chain(&status.draining).chain(&status.stopping);
        let requests = all.map(|i| i.in_flight.saturating_sub(i.tunnels)).sum();
        match requests {
            0 => Self::Paused,
            requests => Self::Pausing { requests },
        }
    }

    /// Returns the progress with a maintenance.
    pub(in crate::commands) fn of_maintenance(status: &Status) -> Self {
        if status.maintenance.is_some() {
            Self::InMaintenance
        } else {
            Self::NotInMaintenance
        }
    }

    /// Creates the step of a command that cannot be executed.
    pub(in crate::commands) fn impossible(reason: &str) -> Self {
        Self::Refused(RefusalReport::because(reason))
    }

    /// Creates the step of a command whose place another one has taken.
    pub(in crate::commands) fn superseded(reason: &str) -> Self {
        Self::Superseded(RefusalReport::because(reason))
    }

    fn towards(
        status: &Status,
        is_reached: bool,
        is_ours: impl Fn(&Handoff) -> bool,
        enough: usize,
    ) -> Self {
        if is_reached {
            return Self::promoted(status);
        }
        let ours = || status.handoffs.iter().filter(|handoff| is_ours(handoff));
        let waiting = || Self::Waiting {
            problem: reason_to_wait(status),
        };
        let Some(last) = ours().next_back() else {
            return waiting();
        };
        let staged = status.staged.as_ref().map(|staged| staged.generation);
        let is_staged = |handoff: &Handoff| staged == Some(handoff.generation);
        match last.outcome {
            Outcome::Refused => {
                Self::Refused(RefusalReport::of(last, status.last_failure.as_ref()))
            }
            Outcome::Failed => {
                let failed = ours().filter(|handoff| handoff.outcome == Outcome::Failed);
                if failed.count() >= enough {
                    Self::Refused(RefusalReport::of(last, status.last_failure.as_ref()))
                } else {
                    Self::Failing {
                        reason: last.reason.clone().unwrap_or_default(),
                    }
                }
            }
            Outcome::Starting if is_staged(last) => match &status.canary {
                Some(canary) => Self::Canary {
                    share: canary.share.clone(),
                    stage: canary.stage,
                    stages: canary.stages,
                },
                None => Self::Staged,
            },
            Outcome::Starting if last.ready_ms.is_some() => Self::Ready,
            Outcome::Starting => {
                let candidate = status.candidate.as_ref();
                let candidate = candidate.filter(|c| c.generation == last.generation);
                match candidate.and_then(|candidate| candidate.probe.clone()) {
                    Some(probe) => Self::Probing { probe },
                    None => Self::Starting,
                }
            }
            Outcome::Promoted | Outcome::Abandoned | Outcome::Unknown => waiting(),
        }
    }

    fn promoted(status: &Status) -> Self {
        let draining: Vec<_> = status
            .draining
            .iter()
            .map(|instance| Draining {
                release: instance.release.clone(),
                requests: instance.in_flight.saturating_sub(instance.tunnels),
                tunnels: instance.tunnels,
                sessions: instance.sessions,
            })
            .collect();
        if draining.is_empty() {
            Self::Done
        } else {
            Self::Promoted { draining }
        }
    }

    /// Returns the reason of a refusal, if this is one.
    pub(in crate::commands) fn refusal(&self) -> Option<&RefusalReport> {
        match self {
            Self::Refused(refusal) | Self::Superseded(refusal) => Some(refusal),
            Self::Waiting { .. }
            | Self::Starting
            | Self::Probing { .. }
            | Self::Ready
            | Self::Staged
            | Self::Canary { .. }
            | Self::GivenUp
            | Self::Promoted { .. }
            | Self::Done
            | Self::Failing { .. }
            | Self::Pausing { .. }
            | Self::Paused
            | Self::Resumed
            | Self::InMaintenance
            | Self::NotInMaintenance
            | Self::Upgraded => None,
        }
    }

    /// Returns true if the release receives the requests.
    pub(in crate::commands) fn is_active(&self) -> bool {
        matches!(self, Self::Promoted { .. } | Self::Done)
    }

    /// Returns true if this step is worth a line after `printed`, which not each probe and request
    /// is.
    pub(in crate::commands) fn is_news_after(&self, told: &Self) -> bool {
        std::mem::discriminant(self) != std::mem::discriminant(told)
            || matches!(self, Self::Waiting { .. }) && self != told
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { problem: None } => f.write_str("has not noticed it yet"),
            Self::Waiting {
                problem: Some(problem),
            } => write!(f, "cannot accept it yet: {problem}"),
            Self::Starting => f.write_str("starting"),
            Self::Probing { probe } => write!(f, "probing: {probe}"),
            Self::Ready => f.write_str("ready"),
            Self::Staged => f.write_str("staged: it awaits its promotion"),
            Self::Canary {
                share,
                stage,
                stages,
            } => write!(
                f,
                "canary: {share} of new clients, stage {stage} of {stages}"
            ),
            Self::GivenUp => f.write_str("given up"),
            Self::Promoted { draining } => {
                f.write_str("promoted")?;
                draining.iter().try_for_each(|one| write!(f, "; {one}"))
            }
            Self::Done => f.write_str("promoted, and nothing drains"),
            Self::Failing { reason } => write!(f, "failed, and is tried again: {reason}"),
            Self::Refused(refusal) => write!(f, "refused: {}", refusal.reason),
            Self::Superseded(refusal) => write!(f, "superseded: {}", refusal.reason),
            Self::Pausing { requests } => {
                write!(f, "paused, {} in flight", count(*requests, "request"))
            }
            Self::Paused => f.write_str("paused, and no request is in flight"),
            Self::Resumed => f.write_str("not paused"),
            Self::InMaintenance => f.write_str("in maintenance"),
            Self::NotInMaintenance => f.write_str("not in maintenance"),
            Self::Upgraded => f.write_str("upgraded"),
        }
    }
}

impl fmt::Display for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = count(self.requests, "request");
        let tunnels = count(self.tunnels, "tunnel");
        let release = &self.release;
        match self.sessions {
            None => write!(f, "{release} drains: {requests} and {tunnels} left"),
            Some(sessions) => {
                let sessions = count(sessions, "session");
                write!(
                    f,
                    "{release} keeps {sessions}: {requests} and {tunnels} at the moment"
                )
            }
        }
    }
}

// === impl RefusalReport ===

impl RefusalReport {
    /// Creates a refusal without output.
    pub(in crate::commands) fn because(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            error: None,
            exit: None,
            probe: None,
            output: Vec::new(),
        }
    }

    fn of(handoff: &Handoff, failure: Option<&Failure>) -> Self {
        let reason = handoff.reason.clone();
        let failure = failure.filter(|failure| failure.generation == handoff.generation);
        Self {
            reason: reason.unwrap_or_else(|| "for a reason that it does not tell".to_owned()),
            error: failure.and_then(|failure| failure.error.clone()),
            exit: failure.and_then(|failure| failure.exit.clone()),
            probe: failure.and_then(|failure| failure.probe.clone()),
            output: failure.map_or_else(Vec::new, |f| f.output.iter().cloned().collect()),
        }
    }
}

impl fmt::Display for RefusalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        // Texts that the reason contains are not repeated.
        let more = [
            ("error", &self.error),
            ("exit status", &self.exit),
            ("last health check", &self.probe),
        ];
        for (what, value) in more {
            if let Some(value) = value
                && !self.reason.contains(value.as_str())
            {
                write!(f, "\n  {what}: {value}")?;
            }
        }
        if !self.output.is_empty() {
            f.write_str("\n  its last lines of output:")?;
            for line in &self.output {
                write!(f, "\n  | {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(more: Value) -> Status {
        let mut status = json!({
            "schema": 1, "sidecar": "a", "version": "0", "pid": 1, "listen": "127.0.0.1:1",
            "started_ms": 1, "heartbeat_ms": 1, "phase": "running",
        });
        let (Value::Object(all), Value::Object(more)) = (&mut status, more) else {
            unreachable!("both are objects");
        };
        all.extend(more);
        serde_json::from_value(status).unwrap()
    }

    fn handoff(generation: u64, outcome: &str) -> Value {
        json!({"release": "v2", "digest": "new", "generation": generation, "outcome": outcome,
            "launched_ms": 1, "reason": "exited with 3"})
    }

    fn instance(digest: &str) -> Value {
        json!({"generation": 2, "release": "v", "digest": digest, "since_ms": 1})
    }

    /// The launches up to this one, all of them over.
    fn after(last: u64) -> LaunchesBefore {
        LaunchesBefore {
            last: Generation(last),
            starting: None,
        }
    }

    fn step(more: Value) -> Step {
        Step::of(&status(more), "new", after(1))
    }

    #[test]
    fn what_came_before_the_deploy_says_nothing_about_it() {
        let waiting = Step::Waiting { problem: None };
        assert_eq!(step(json!({"handoffs": [handoff(1, "refused")]})), waiting);
        let refused = step(json!({"handoffs": [handoff(1, "refused"), handoff(2, "refused")]}));
        assert!(matches!(refused, Step::Refused(_)), "{refused:?}");
        let starting = step(json!({"handoffs": [handoff(1, "starting")]}));
        assert_eq!(starting, Step::Starting);
    }

    #[test]
    fn what_started_at_the_time_of_a_command_for_the_same_release_is_its_outcome() {
        let starts =
            status(json!({"candidate": instance("new"), "handoffs": [handoff(2, "starting")]}));
        let before = LaunchesBefore::of(&starts);
        let now = status(json!({"active": instance("old"), "handoffs": [handoff(2, "refused")]}));
        let rollback = Step::of_rollback(&now, &ReleaseId::new("v2"), before);
        for step in [Step::of(&now, "new", before), rollback] {
            assert!(matches!(step, Step::Refused(_)), "{step:?}");
        }
        // A restart has a launch of its own then.
        let restart = Step::of_restart(&now, Generation(2), before);
        assert_eq!(restart, Step::Waiting { problem: None });
        let now = status(json!({"active": instance("new"), "handoffs": [handoff(2, "failed")]}));
        let again = Step::of_restart(&now, Generation(2), before);
        assert!(matches!(again, Step::Refused(_)), "{again:?}");
    }

    #[test]
    fn a_sidecar_that_looks_seldom_says_how_often() {
        let Step::Waiting { problem } = step(json!({"source": {"poll_ms": 3_600_000}})) else {
            panic!("it waits");
        };
        let problem = problem.expect("a reason");
        assert!(problem.ends_with("every 1h (--poll)"), "{problem}");
        let often = step(json!({"source": {"poll_ms": 2_000}}));
        assert_eq!(often, Step::Waiting { problem: None });
    }

    #[test]
    fn what_is_never_accepted_is_refused() {
        let more = |refused: &str| {
            let problem = "\"a.zip\" is refused: it leads out of its folder";
            step(json!({"artifact_problem": problem, "artifact_refused": refused}))
        };
        let step = more("new");
        let refusal = step.refusal().expect("a refusal");
        assert!(refusal.reason.contains("leads out"), "{refusal:?}");
        assert!(matches!(more("other"), Step::Waiting { .. }));
    }

    #[test]
    fn another_release_says_nothing_about_it() {
        let mut other = handoff(2, "refused");
        other["digest"] = "other".into();
        let more = json!({"active": instance("other"), "handoffs": [other]});
        assert_eq!(step(more), Step::Waiting { problem: None });
    }

    #[test]
    fn what_was_promoted_is_not_given_up() {
        let promoted = status(json!({"active": instance("new")}));
        let step = Step::of_abort(&promoted, Generation(2));
        assert!(matches!(step, Step::Refused(_)), "{step:?}");
        assert_eq!(Step::of_abort(&promoted, Generation(3)), Step::GivenUp);
    }

    #[test]
    fn an_artifact_that_settles_is_noticed() {
        let settling = json!({"artifact": "site", "period_ms": 5000, "changed_ms": 1,
            "sees_writers": true});
        let text = step(json!({"settling": settling})).to_string();
        assert!(text.contains("not changed for 5s"), "{text}");
        assert!(!text.contains("not noticed"), "{text}");
    }

    #[test]
    fn a_candidate_shows_what_its_last_probe_said() {
        let mut candidate = instance("new");
        candidate["probe"] = "answered 503".into();
        let more = json!({"candidate": candidate, "handoffs": [handoff(2, "starting")]});
        assert_eq!(step(more).to_string(), "probing: answered 503");
    }

    #[test]
    fn what_drains_is_told_and_then_done() {
        let mut old = instance("old");
        old["in_flight"] = 3.into();
        old["tunnels"] = 1.into();
        let promoted = step(json!({"active": instance("new"), "draining": [old]}));
        let text = "promoted; v drains: 2 requests and 1 tunnel left";
        assert_eq!(promoted.to_string(), text);
        assert!(promoted.is_active());
        assert_eq!(step(json!({"active": instance("new")})), Step::Done);
    }

    #[test]
    fn a_release_that_is_tried_again_is_given_up_after_a_few_failures() {
        let failed = |times: u64| {
            (2..2 + times)
                .map(|n| handoff(n, "failed"))
                .collect::<Vec<_>>()
        };
        let failing = step(json!({"handoffs": failed(2)}));
        assert!(matches!(failing, Step::Failing { .. }), "{failing:?}");
        let refused = step(json!({"handoffs": failed(3)}));
        assert!(matches!(refused, Step::Refused(_)), "{refused:?}");
    }

    #[test]
    fn a_refusal_says_everything_once() {
        let failure = json!({"release": "v2", "digest": "new", "generation": 2, "at_ms": 1,
            "reason": "exited with 3", "error": "NoShopError: no", "exit": "3", "probe": "refused",
            "output": ["one", "two"]});
        let Step::Refused(refusal) =
            step(json!({"handoffs": [handoff(2, "refused")], "last_failure": failure}))
        else {
            panic!("refused");
        };
        let text = "exited with 3\n  error: NoShopError: no\n  last health check: refused\n  \
            its last lines of output:\n  | one\n  | two";
        assert_eq!(refusal.to_string(), text);
    }
}
