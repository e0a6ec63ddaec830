//! The outcome of one request: plain data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::Request;

/// One request and what became of it. Times count from the start of the load.
#[derive(Debug)]
pub struct Outcome {
    pub request: Request,
    /// Time at which the request should have been sent.
    pub due: Duration,
    /// Time at which the generator took it up; later than `due` by the generator's own lateness.
    pub taken: Duration,
    /// Time at which it was begun; later than `taken` by the wait for a connection.
    pub began: Duration,
    /// Time of its last byte, or of the failure.
    pub ended: Duration,
    /// Longest delay of one part of a stream, by the pace that was asked for.
    pub part_late: Duration,
    /// Release that answered.
    pub release: Option<u32>,
    /// The server had closed the kept connection while it was idle, so that a new one was opened.
    pub is_reopened: bool,
    pub failed: Option<Failed>,
}

/// The reason for which a request counts as failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failed {
    pub kind: Failure,
    /// Text for a person: what was seen, and what was expected.
    pub detail: String,
}

/// A kind of failure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// A connection that could not be had.
    Refused,
    /// The connection ended after the request was sent, before a byte of its answer.
    Reset,
    /// An answer that was not complete in time.
    Timeout,
    /// A status other than 200.
    Status,
    /// The answer began and did not end.
    Truncated,
    /// A complete answer that is not the one to this request, or of a release that cannot serve.
    Wrong,
    /// An answer to a request that reached no app, or a missing part of a stream.
    Lost,
    /// A request that arrived more often than it may.
    Repeated,
    /// The answer to another request, or of another process than the one that took the request.
    MixedUp,
    /// A release that was not deployed yet, or older than one that had answered before.
    WrongRelease,
}

impl Outcome {
    /// Returns the time from due to the end, without the wait that the request asked the app for. A
    /// stream is as late as its latest part.
    pub fn latency(&self) -> Duration {
        self.began.saturating_sub(self.due) + self.service()
    }

    /// Returns the same from the time at which the request was begun.
    pub fn service(&self) -> Duration {
        self.ended
            .saturating_sub(self.began)
            .saturating_sub(self.request.call.wait())
            .max(self.part_late)
    }

    /// Returns the lateness of the generator.
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
    /// Kinds that clients can tell apart without a journal.
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

    /// Returns the kind of [`Self::PLAIN`] that it belongs to.
    pub fn plain(self) -> Self {
        if Self::PLAIN.contains(&self) {
            self
        } else {
            Self::Wrong
        }
    }

    /// Returns the word for it in reports and JSON.
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
