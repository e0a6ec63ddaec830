//! A stage, as `deploy --stage` asks for it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::canary::CanaryPlan;
use super::unix_millis::UnixMillis;
use crate::release::Digest;

/// Content that is not to serve before that is requested.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageCommand {
    /// Digest of the content: `sha256:…`.
    pub digest: String,
    /// Token of the requests that reach it meanwhile.
    pub token: String,
    /// Number of the command; it grows with each one.
    pub serial: u64,
    /// Latest end of the stage by the clock of the machine that asked for it, in milliseconds since
    /// the Unix epoch; the time for the start of the release is within it.
    pub until_ms: u64,
    /// Maximum duration of the stage from the moment at which it begins, in milliseconds.
    pub max_ms: u64,
    /// Stages in which it gets a share of new clients meanwhile, and after which it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryPlan>,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

impl StageCommand {
    /// Returns the request to stage this content for at most `max`, when it has started within `start`.
    pub fn new(digest: Digest, token: String, start: Duration, max: Duration) -> Self {
        Self {
            digest: digest.to_string(),
            token,
            until_ms: UnixMillis::from(SystemTime::now() + start + max).0,
            max_ms: u64::try_from(max.as_millis()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// Returns the rest of its time.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        let until = self.until_ms.saturating_sub(UnixMillis::from(now).0);
        Duration::from_millis(until.min(self.max_ms))
    }
}

impl fmt::Debug for StageCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageCommand")
            .field("digest", &self.digest)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}
