//! The result of a command, for people and for programs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::step::Step;
use crate::cli::output::{OutputFormat, eprint_line, print_json, print_line};
use crate::commands::ExitStatus;

const SCHEMA: u32 = 1;

/// A result, as `--json` prints it. Keys are only ever added.
#[derive(Debug)]
pub(in crate::commands) struct Report {
    pub(in crate::commands) outcome: CommandOutcome,
    pub(in crate::commands) exit_status: ExitStatus,
    pub(in crate::commands) message: String,
    pub(in crate::commands) sidecars: Vec<SidecarReport>,
    /// Keys of this command alone.
    pub(in crate::commands) more: Map<String, Value>,
}

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::commands) enum CommandOutcome {
    /// The release is active in all sidecars.
    Promoted,
    /// The release awaits its promotion in all sidecars.
    Staged,
    /// The release was active already.
    Unchanged,
    /// All sidecars have executed the command.
    Done,
    /// A sidecar refused the release or the command.
    Refused,
    /// Another command replaced this one.
    Superseded,
    /// The result did not come in time.
    Timeout,
    /// There is no live sidecar.
    Idle,
    /// Nothing was changed.
    Failed,
}

/// The last step of one sidecar.
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
    /// Creates the report of a command that changed nothing.
    pub(in crate::commands) fn failed(exit_status: ExitStatus, error: &impl ToString) -> Self {
        Self {
            outcome: CommandOutcome::Failed,
            exit_status,
            message: error.to_string(),
            sidecars: Vec::new(),
            more: Map::new(),
        }
    }

    /// Prints success to stdout, failure to stderr, and JSON to stdout.
    pub(in crate::commands) fn print(&self, format: OutputFormat) {
        if format == OutputFormat::Json {
            print_json(&self.json());
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
