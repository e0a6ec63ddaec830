//! The result of a command, over all sidecars.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, json};

use super::{ControlOutcome, ControlRun};
use crate::commands::follow::{CommandOutcome, Report, SidecarReport, Step, Steps};
use crate::commands::{ELSEWHERE, ExitStatus, count};
use crate::deployment::desired::ControlCommand;
use crate::deployment::status::{Status, UnixMillis};

impl ControlRun {
    pub(super) fn report(&self, outcome: ControlOutcome, steps: Steps) -> Report {
        let (name, exit_status) = match outcome {
            ControlOutcome::Done => (CommandOutcome::Done, ExitStatus::Done),
            ControlOutcome::Refused => (CommandOutcome::Refused, ExitStatus::Refused),
            ControlOutcome::Superseded => (CommandOutcome::Superseded, ExitStatus::Refused),
            ControlOutcome::Timeout => (CommandOutcome::Timeout, ExitStatus::Timeout),
            ControlOutcome::Idle => (CommandOutcome::Idle, ExitStatus::Idle),
        };
        let releases = self.releases(&steps);
        Report {
            outcome: name,
            exit_status,
            message: self.message(outcome, &steps, &releases),
            sidecars: steps.into_iter().map(SidecarReport::from).collect(),
            more: Map::from_iter([("releases".to_owned(), json!(releases))]),
        }
    }

    /// Returns the active releases of the sidecars that have executed the command.
    fn releases(&self, steps: &Steps) -> BTreeSet<String> {
        let is_done = |status: &&Status| {
            let step = steps.get(&status.sidecar);
            step.is_some_and(|step| self.is_done(step))
        };
        let done = self.follower.sidecars.live().filter(is_done);
        done.filter_map(|status| status.active.as_ref())
            .map(|active| active.release.to_string())
            .collect()
    }

    fn message(
        &self,
        outcome: ControlOutcome,
        steps: &Steps,
        releases: &BTreeSet<String>,
    ) -> String {
        let state = &self.state;
        let text = match outcome {
            ControlOutcome::Done => return self.message_of_done(steps, releases),
            ControlOutcome::Idle => {
                let end = match self.command {
                    ControlCommand::Resume => "the pause is taken out of desired.json",
                    ControlCommand::BeginMaintenance(_) => {
                        "one that starts begins with the maintenance"
                    }
                    ControlCommand::EndMaintenance => {
                        "the maintenance is taken out of desired.json"
                    }
                    ControlCommand::Retry(_)
                    | ControlCommand::Rollback(_)
                    | ControlCommand::Restart
                    | ControlCommand::Pause(_)
                    | ControlCommand::Stage(_)
                    | ControlCommand::Promote
                    | ControlCommand::Abort => "there is nothing to do",
                    ControlCommand::Upgrade(_) => "there is nothing to upgrade",
                };
                return format!("no sidecar runs (none is alive in {state:?}; {ELSEWHERE}): {end}");
            }
            ControlOutcome::Superseded => {
                format!("something newer has taken the place of `{}`", self.command)
            }
            ControlOutcome::Refused if matches!(self.command, ControlCommand::Rollback(_)) => {
                "not all have gone back".to_owned()
            }
            ControlOutcome::Refused => "not all have done it".to_owned(),
            ControlOutcome::Timeout if matches!(self.command, ControlCommand::Pause(_)) => {
                "not all sidecars were paused in time with no request in flight, so the pause is \
                 taken back"
                    .to_owned()
            }
            ControlOutcome::Timeout => {
                let timeout = humantime::format_duration(self.timeout);
                format!("not all have done it after {timeout}")
            }
        };
        steps.iter().fold(text, |mut text, (id, step)| {
            // Writing to a string cannot fail.
            let _ = match step.refusal() {
                Some(refusal) if matches!(step, Step::Refused(_)) => {
                    write!(text, "\n  sidecar {id} refused: {refusal}")
                }
                Some(refusal) => write!(text, "\n  sidecar {id}: {refusal}"),
                None => write!(text, "\n  sidecar {id}: {step}"),
            };
            text
        })
    }

    fn message_of_done(&self, steps: &Steps, releases: &BTreeSet<String>) -> String {
        let all = count(steps.len(), "sidecar");
        let releases: Vec<_> = releases.iter().map(String::as_str).collect();
        let releases = releases.join(" and ");
        match self.command {
            ControlCommand::Rollback(_) => format!("{releases} serves again in {all}"),
            ControlCommand::Promote => format!("{releases} serves in {all}"),
            ControlCommand::Abort => {
                format!("the staged release is given up in {all}; {releases} serves on")
            }
            ControlCommand::Restart => format!("{releases} serves from a new instance in {all}"),
            ControlCommand::Pause(_) => {
                let left = humantime::format_duration(self.pause_left());
                format!(
                    "{all} paused, with no request in flight; the pause ends in {left}, or with \
                     `handoff resume`"
                )
            }
            ControlCommand::BeginMaintenance(_) => format!(
                "{all} in maintenance: new requests get 503 until `handoff maintenance off`"
            ),
            ControlCommand::EndMaintenance => format!("{all} not in maintenance"),
            ControlCommand::Upgrade(_) => {
                format!("handoff is upgraded in {all}; {releases} serves on")
            }
            ControlCommand::Resume | ControlCommand::Retry(_) | ControlCommand::Stage(_) => {
                format!("{all} not paused")
            }
        }
    }

    /// Returns the time until the first sidecar ends the pause, in whole seconds.
    fn pause_left(&self) -> Duration {
        let now = UnixMillis::now();
        let left = |status: &Status| {
            let until = status.paused.as_ref()?.until_ms;
            Some(until.0.saturating_sub(now.0) / 1000)
        };
        let left = self.follower.sidecars.live().filter_map(left).min();
        Duration::from_secs(left.unwrap_or(0))
    }
}
