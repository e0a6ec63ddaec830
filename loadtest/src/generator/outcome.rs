//! The outcome of one request: plain data.

use std::time::Duration;

use super::failure::Failed;
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
