//! The part of the status about a release that rests after crashes.

use serde::{Deserialize, Serialize};

use super::unix_millis::UnixMillis;
use crate::release::{Generation, ReleaseId};

/// A release that gave way to an earlier one because it crashed again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaveWay {
    /// Launch number of its last instance.
    pub generation: Generation,
    /// Release that gave way.
    pub from: ReleaseId,
    /// Release that serves instead.
    pub to: ReleaseId,
    /// Time at which it did.
    pub at_ms: UnixMillis,
    /// Time of the next try.
    pub retry_ms: UnixMillis,
}
