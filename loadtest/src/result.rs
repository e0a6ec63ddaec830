//! What became of a request: plain data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::traffic::Shot;

/// One request and what became of it. Times count from the start of the attack.
#[derive(Debug)]
pub struct Outcome {
    pub shot: Shot,
    /// When the request should have been sent.
    pub due: Duration,
    /// When the generator took it up: what lies between is the generator's own lateness.
    pub taken: Duration,
    /// When it was begun: what lies between is the wait for a connection.
    pub began: Duration,
    /// When its last byte came, or the failure.
    pub ended: Duration,
    /// Of what comes in parts: how late the latest of them was, by the pace that was asked for.
    pub part_late: Duration,
    /// The release that answered.
    pub release: Option<u32>,
    /// It needed a new connection, since the server had closed the kept one while it was idle.
    pub reopened: bool,
    pub failed: Option<Failed>,
}

/// Why a request counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub kind: Failure,
    /// For a person: what was seen, and what was expected.
    pub detail: String,
}

/// The ways to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// It never arrived at an app, though an answer came; or a part of what was said is missing.
    Lost,
    /// It arrived more often than it may.
    Repeated,
    /// The answer to another request, or the answer of another process than the one that took it.
    #[serde(rename = "mixed_up")]
    MixedUp,
    /// Of a release that was not deployed yet, or older than one that had answered before.
    #[serde(rename = "wrong_release")]
    WrongRelease,
}

impl Outcome {
    /// From due to the end, without the time that the request itself asked the app to wait. What
    /// comes in parts is as late as the latest of them.
    pub fn latency(&self) -> Duration {
        self.began.saturating_sub(self.due) + self.service()
    }

    /// The same from the time at which it was begun.
    pub fn service(&self) -> Duration {
        self.ended
            .saturating_sub(self.began)
            .saturating_sub(self.shot.call.wait())
            .max(self.part_late)
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
    /// All that the demo tells apart.
    pub const PLAIN: [Self; 6] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Status,
        Self::Truncated,
        Self::Wrong,
    ];

    pub const ALL: [Self; 10] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Status,
        Self::Truncated,
        Self::Wrong,
        Self::Lost,
        Self::Repeated,
        Self::MixedUp,
        Self::WrongRelease,
    ];

    /// What the demo calls it.
    pub fn plain(self) -> Self {
        match self {
            Self::Lost | Self::Repeated | Self::MixedUp | Self::WrongRelease => Self::Wrong,
            Self::Refused
            | Self::Reset
            | Self::Timeout
            | Self::Status
            | Self::Truncated
            | Self::Wrong => self,
        }
    }

    /// The word used in reports and as a JSON key.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Truncated => "truncated",
            Self::Wrong => "wrong",
            Self::Lost => "lost",
            Self::Repeated => "repeated",
            Self::MixedUp => "mixed_up",
            Self::WrongRelease => "wrong_release",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
