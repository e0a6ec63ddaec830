//! How a deploy ended, for people and for programs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::DeployError;
use super::step::{Refusal, Step};
use crate::commands::Ending;
use crate::release::ReleaseId;

const SCHEMA: u32 = 1;

/// What `--json` prints. Keys are only ever added.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) ending: Ending,
    pub(super) message: String,
    pub(super) release: Option<ReleaseId>,
    pub(super) digest: Option<String>,
    pub(super) artifact: Option<PathBuf>,
    pub(super) refusal: Option<Refusal>,
    pub(super) sidecars: Vec<SidecarReport>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It is active everywhere.
    Promoted,
    /// It was already.
    Unchanged,
    /// A sidecar refused it.
    Refused,
    /// Another deploy came in between.
    Superseded,
    /// Not in time.
    Timeout,
    /// No sidecar runs.
    Idle,
    /// Nothing was deployed.
    Failed,
}

/// One sidecar at the end.
#[derive(Debug, Serialize)]
pub(super) struct SidecarReport {
    sidecar: Arc<str>,
    #[serde(flatten)]
    step: Step,
}

impl From<(Arc<str>, Step)> for SidecarReport {
    fn from((sidecar, step): (Arc<str>, Step)) -> Self {
        Self { sidecar, step }
    }
}

// === impl Report ===

impl Report {
    /// Nothing was deployed.
    pub(super) fn failed(error: &DeployError) -> Self {
        let ending = match error {
            DeployError::Place(_) | DeployError::Name(_) => Ending::Usage,
            DeployError::Read { .. } | DeployError::Upload { .. } | DeployError::Pointer { .. } => {
                Ending::Refused
            }
        };
        Self {
            outcome: Outcome::Failed,
            ending,
            message: error.to_string(),
            release: None,
            digest: None,
            artifact: None,
            refusal: None,
            sidecars: Vec::new(),
        }
    }

    /// The exit code.
    pub(super) fn ending(&self) -> Ending {
        self.ending
    }

    /// Good news on stdout, bad news on stderr; JSON on stdout.
    pub(super) fn print(&self, json: bool) {
        if json {
            println!("{}", self.json());
        } else if self.ending == Ending::Done {
            println!("{}", self.message);
        } else {
            eprintln!("handoff: {}", self.message);
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": SCHEMA,
            "outcome": self.outcome,
            "exit": self.ending as u8,
            "message": self.message,
            "release": self.release,
            "digest": self.digest,
            "artifact": self.artifact,
            "refusal": self.refusal,
            "sidecars": self.sidecars,
        })
    }
}
