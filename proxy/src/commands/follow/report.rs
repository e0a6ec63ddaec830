//! How a command ended, for people and for programs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Step;
use crate::cli::output::{eprint_line, print_line};
use crate::commands::ExitStatus;

const SCHEMA: u32 = 1;

/// What `--json` prints. Keys are only ever added.
#[derive(Debug)]
pub(in crate::commands) struct Report {
    pub(in crate::commands) outcome: Outcome,
    pub(in crate::commands) exit_status: ExitStatus,
    pub(in crate::commands) message: String,
    pub(in crate::commands) sidecars: Vec<SidecarReport>,
    /// What only this command tells.
    pub(in crate::commands) more: Map<String, Value>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::commands) enum Outcome {
    /// It is active everywhere.
    Promoted,
    /// It was already.
    Unchanged,
    /// What was asked for is so everywhere.
    Done,
    /// A sidecar refused it.
    Refused,
    /// Somebody else came in between.
    Superseded,
    /// Not in time.
    Timeout,
    /// No sidecar runs.
    Idle,
    /// Nothing was done.
    Failed,
}

/// One sidecar at the end.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct SidecarReport {
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
    /// Nothing was done.
    pub(in crate::commands) fn failed(exit_status: ExitStatus, error: &impl ToString) -> Self {
        Self {
            outcome: Outcome::Failed,
            exit_status,
            message: error.to_string(),
            sidecars: Vec::new(),
            more: Map::new(),
        }
    }

    /// Good news on stdout, bad news on stderr; JSON on stdout.
    pub(in crate::commands) fn print(&self, json: bool) {
        if json {
            print_line(self.json());
        } else if self.exit_status == ExitStatus::Done {
            print_line(&self.message);
        } else {
            eprint_line(format_args!("handoff: {}", self.message));
        }
    }

    fn json(&self) -> Value {
        let mut json = self.more.clone();
        json.extend([
            ("schema".to_owned(), SCHEMA.into()),
            ("outcome".to_owned(), serde_json::json!(self.outcome)),
            ("exit".to_owned(), (self.exit_status as u8).into()),
            ("message".to_owned(), self.message.clone().into()),
            ("sidecars".to_owned(), serde_json::json!(self.sidecars)),
        ]);
        json.into()
    }
}
