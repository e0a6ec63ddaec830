//! What became of a request: plain data.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::traffic::Shot;

/// One request and what became of it. Times count from the start of the attack.
#[derive(Debug)]
pub struct Outcome {
    pub shot: Shot,
    /// When the request should have been sent.
    pub due: Duration,
    /// When the generator took it up: what lies between is the generator's own lateness.
    pub taken: Duration,
    /// When its last byte came, or the failure.
    pub ended: Duration,
    /// The release that answered.
    pub release: Option<u32>,
    /// It needed a new connection, since the server had closed the kept one while it was idle.
    pub reopened: bool,
    pub failed: Option<Failed>,
}

/// Why a request counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub kind: Failure,
    /// For a person: what was seen, and what was expected.
    pub detail: String,
}

/// The ways to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Failure {
    /// No connection could be had.
    Refused,
    /// The connection ended after the request was sent, before a byte of its answer.
    Reset,
    /// No complete answer in time.
    Timeout,
    /// A status other than 200.
    Status,
    /// The answer began and did not end.
    Truncated,
    /// A complete answer that is not the one to this request, or of a release that could not be.
    Wrong,
}

impl Outcome {
    /// From due to the end, without the time that the request itself asked the app to wait.
    pub fn latency(&self) -> Duration {
        self.ended
            .saturating_sub(self.due)
            .saturating_sub(self.shot.call.wait())
    }

    /// How late the generator was.
    pub fn lateness(&self) -> Duration {
        self.taken.saturating_sub(self.due)
    }
}

impl Failed {
    pub fn new(kind: Failure, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

impl Failure {
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Status,
        Self::Truncated,
        Self::Wrong,
    ];

    /// The word used in reports and as a JSON key.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Truncated => "truncated",
            Self::Wrong => "wrong",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
