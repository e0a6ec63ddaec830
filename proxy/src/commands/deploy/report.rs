//! The report of a deploy.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::outcome::DeployOutcome;
use super::{DeployChanges, DeployRun};
use crate::cli::deploy::IfIdle;
use crate::commands::follow::{CommandOutcome, Report, SidecarReport};
use crate::commands::{ELSEWHERE, ExitStatus, count};
use crate::deployment::names::release_id;
use crate::release::ReleaseId;

impl DeployRun<'_> {
    pub(super) fn report(
        &self,
        deploy_outcome: &DeployOutcome,
        active: CommandOutcome,
        changes: Option<&DeployChanges>,
    ) -> Report {
        let (outcome, exit_status) = match (deploy_outcome, self.options.if_idle) {
            (DeployOutcome::Active, _) => (active, ExitStatus::Done),
            (DeployOutcome::Staged, _) => (CommandOutcome::Staged, ExitStatus::Done),
            (DeployOutcome::Refused(..), _) => (CommandOutcome::Refused, ExitStatus::Refused),
            (DeployOutcome::Superseded, _) => (CommandOutcome::Superseded, ExitStatus::Refused),
            (DeployOutcome::Timeout, _) => (CommandOutcome::Timeout, ExitStatus::Timeout),
            (DeployOutcome::Idle, IfIdle::Fail) => (CommandOutcome::Idle, ExitStatus::Idle),
            (DeployOutcome::Idle, IfIdle::Accept) => (CommandOutcome::Idle, ExitStatus::Done),
        };
        let artifact = changes.map(|changes| changes.uploaded.path.clone());
        let release = match changes {
            Some(changes) => changes.release.clone(),
            None => {
                let active = self
                    .follower
                    .sidecars
                    .live()
                    .find_map(|status| status.active.as_ref());
                let own =
                    || release_id(self.options.id.as_deref(), &self.original.path, self.digest);
                active.map_or_else(own, |active| active.release.clone())
            }
        };
        Report {
            message: self.message(deploy_outcome, &release, outcome),
            outcome,
            exit_status,
            more: [
                ("release", json!(release)),
                ("digest", json!(self.digest_text)),
                ("artifact", json!(artifact)),
                ("refusal", json!(deploy_outcome.refusal())),
                (
                    "token",
                    json!(self.stage.as_ref().map(|stage| &stage.token)),
                ),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect(),
            sidecars: self.steps().into_iter().map(SidecarReport::from).collect(),
        }
    }

    fn message(
        &self,
        deploy_outcome: &DeployOutcome,
        release: &ReleaseId,
        outcome: CommandOutcome,
    ) -> String {
        let steps = self.steps();
        match deploy_outcome {
            DeployOutcome::Active => {
                let is_unchanged = outcome == CommandOutcome::Unchanged;
                let already = if is_unchanged { "already " } else { "" };
                format!(
                    "{release} is {already}active in {}",
                    count(steps.len(), "sidecar")
                )
            }
            DeployOutcome::Staged => self.message_of_stage(release, steps.len()),
            DeployOutcome::Refused(sidecar, refusal) => {
                format!("{release} was refused by sidecar {sidecar}: {refusal}")
            }
            DeployOutcome::Superseded => format!(
                "{release}: another deploy came in between; {} is something else now",
                shown(
                    self.place
                        .pointer
                        .as_deref()
                        .or(self.place.in_place.as_deref())
                )
            ),
            DeployOutcome::Timeout => {
                let timeout = self.options.timeout;
                let mut text = format!(
                    "{release} is not active everywhere after {timeout}; it stays deployed"
                );
                for (id, step) in &steps {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\n  sidecar {id}: {step}");
                }
                text
            }
            DeployOutcome::Idle => {
                let asleep = self.asleep.as_ref();
                let asleep = asleep.map_or_else(String::new, |why| format!("\n  {why}"));
                format!(
                    "{release} is deployed, but no sidecar runs (none is alive in {:?}; {ELSEWHERE}): \
                     it takes effect at the next start{asleep}",
                    self.place.state
                )
            }
        }
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "the pointer".to_owned(), |path| format!("{path:?}"))
}
