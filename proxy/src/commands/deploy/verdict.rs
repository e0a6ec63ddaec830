//! What following the sidecars came to, in words.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::options::IfIdle;
use super::{Changes, Deploying};
use crate::commands::follow::{Outcome, Refusal, Report, SidecarReport};
use crate::commands::{ELSEWHERE, Ending, count};
use crate::deployment::names::release_id;
use crate::release::ReleaseId;

/// What following came to.
pub(super) enum Verdict {
    Active,
    Refused(Arc<str>, Refusal),
    Superseded,
    Timeout,
    Idle,
}

impl Verdict {
    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(_, refusal) => Some(refusal),
            Self::Active | Self::Superseded | Self::Timeout | Self::Idle => None,
        }
    }
}

impl Deploying<'_> {
    pub(super) fn report(
        &self,
        verdict: &Verdict,
        active: Outcome,
        changes: Option<&Changes>,
    ) -> Report {
        let (outcome, ending) = match (verdict, self.options.if_idle) {
            (Verdict::Active, _) => (active, Ending::Done),
            (Verdict::Refused(..), _) => (Outcome::Refused, Ending::Refused),
            (Verdict::Superseded, _) => (Outcome::Superseded, Ending::Refused),
            (Verdict::Timeout, _) => (Outcome::Timeout, Ending::Timeout),
            (Verdict::Idle, IfIdle::Fail) => (Outcome::Idle, Ending::Idle),
            (Verdict::Idle, IfIdle::Accept) => (Outcome::Idle, Ending::Done),
        };
        let artifact = changes.map(|changes| changes.uploaded.path.clone());
        let release = match changes {
            Some(changes) => changes.release.clone(),
            None => {
                let active = self
                    .following
                    .sidecars
                    .live()
                    .find_map(|status| status.active.as_ref());
                let own = || release_id(self.options.id.as_deref(), &self.artifact, self.digest);
                active.map_or_else(own, |active| active.release.clone())
            }
        };
        Report {
            message: self.message(verdict, &release, outcome),
            outcome,
            ending,
            more: [
                ("release", json!(release)),
                ("digest", json!(self.digest_text)),
                ("artifact", json!(artifact)),
                ("refusal", json!(verdict.refusal())),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect(),
            sidecars: self.steps().into_iter().map(SidecarReport::from).collect(),
        }
    }

    fn message(&self, verdict: &Verdict, release: &ReleaseId, outcome: Outcome) -> String {
        let steps = self.steps();
        match verdict {
            Verdict::Active => {
                let is_unchanged = outcome == Outcome::Unchanged;
                let already = if is_unchanged { "already " } else { "" };
                format!(
                    "{release} is {already}active in {}",
                    count(steps.len(), "sidecar")
                )
            }
            Verdict::Refused(sidecar, refusal) => {
                format!("{release} was refused by sidecar {sidecar}: {refusal}")
            }
            Verdict::Superseded => format!(
                "{release}: another deploy came in between; {} names something else now",
                shown(self.place.pointer.as_deref())
            ),
            Verdict::Timeout => {
                let timeout = humantime::format_duration(self.options.timeout);
                let mut text = format!(
                    "{release} is not active everywhere after {timeout}; it stays deployed"
                );
                for (id, step) in &steps {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\n  sidecar {id}: {step}");
                }
                text
            }
            Verdict::Idle => {
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
