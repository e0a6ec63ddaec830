//! The part of the status about requests without an answer.

use serde::{Deserialize, Serialize};

use super::unix_millis::UnixMillis;
use crate::release::Generation;

/// Requests that the active instance has not answered for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnansweredRequests {
    /// Launch number of the instance.
    pub generation: Generation,
    /// Time at which the app got the oldest of them.
    pub oldest_ms: UnixMillis,
    /// Time of its last answer to any request, if there was one.
    pub last_answer_ms: Option<UnixMillis>,
    /// Time at which it was reported as unresponsive, while it is (`--unresponsive-after`).
    pub unresponsive_ms: Option<UnixMillis>,
}
