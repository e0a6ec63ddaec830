//! The kinds of failure of a request: plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// A client's session that the app no longer knows.
    SessionLost,
    /// A file that a page names, and that nobody has any longer.
    AssetMissing,
    /// A connection of HTTP/2 that the server ended, by GOAWAY or without a word, though clients
    /// have to keep it over swaps.
    ConnectionLost,
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
    pub const PLAIN: &'static [Self] = Self::ALL.split_at(6).0;

    pub const ALL: [Self; 13] = [
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
        Self::SessionLost,
        Self::AssetMissing,
        Self::ConnectionLost,
    ];

    /// Returns the kind of [`Self::PLAIN`] that it belongs to.
    pub fn plain(self) -> Self {
        if Self::PLAIN.contains(&self) {
            self
        } else if self == Self::ConnectionLost {
            Self::Reset
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
            Self::SessionLost => "session_lost",
            Self::AssetMissing => "asset_missing",
            Self::ConnectionLost => "connection_lost",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
