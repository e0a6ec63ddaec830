//! The part of the status about one launch.

use serde::{Deserialize, Serialize};

use super::unix_millis::UnixMillis;
use crate::release::{Generation, Release, ReleaseId};

/// One launch and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// Release that was launched.
    pub release: ReleaseId,
    /// Digest of the release: `sha256:…`.
    pub digest: String,
    /// Launch number.
    pub generation: Generation,
    /// Reason for the launch.
    #[serde(default)]
    pub cause: LaunchCause,
    /// Outcome of the launch.
    pub outcome: Outcome,
    /// Time at which the artifact was first seen.
    pub detected_ms: Option<UnixMillis>,
    /// Time at which the private copy was complete.
    pub copied_ms: Option<UnixMillis>,
    /// Time at which the process was started.
    pub launched_ms: UnixMillis,
    /// Time at which the health check succeeded.
    pub ready_ms: Option<UnixMillis>,
    /// Time of the promotion.
    pub promoted_ms: Option<UnixMillis>,
    /// Launch number of the instance that it superseded.
    pub superseded_generation: Option<Generation>,
    /// Time at which the superseded instance had nothing in flight.
    pub drained_ms: Option<UnixMillis>,
    /// Time at which the processes of the superseded instance had ended.
    pub stopped_ms: Option<UnixMillis>,
    /// Reason of the failure, if it failed.
    pub reason: Option<String>,
    /// Time of its end.
    pub ended_ms: Option<UnixMillis>,
    /// Way in which it ended, as a phrase: `crashed after 12s (exit status: 139)`.
    pub end: Option<String>,
    /// Number of crashes of the release in a row, each within a minute of service, up to this one;
    /// zero if it did not crash.
    #[serde(default)]
    pub crashes: u32,
}

/// The reason for a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchCause {
    /// handoff was started.
    Start,
    /// An artifact was deployed.
    Artifact,
    /// An instance that served has crashed.
    Crash,
    /// The launch before failed.
    FailedStart,
    /// The active instance failed its liveness check.
    LiveCheck,
    /// A restart was requested.
    Restart,
    /// A rollback was requested.
    Rollback,
    /// The app's variables have changed.
    Configuration,
    /// A reason that only newer versions know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The outcome of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The instance starts.
    Starting,
    /// The instance became the active one.
    Promoted,
    /// The instance failed while another one served, and is not tried again.
    Refused,
    /// The instance failed, and is tried again.
    Failed,
    /// A newer artifact or command replaced it before it was ready.
    Abandoned,
    /// An outcome that only newer versions know.
    #[serde(other)]
    Unknown,
}

// === impl Handoff ===

impl Handoff {
    /// Creates the record of a launch that has just begun.
    pub fn new(release: &Release, generation: Generation) -> Self {
        Self {
            release: release.id.clone(),
            digest: release.digest.to_string(),
            generation,
            cause: LaunchCause::Unknown,
            outcome: Outcome::Starting,
            detected_ms: None,
            copied_ms: None,
            launched_ms: UnixMillis::now(),
            ready_ms: None,
            promoted_ms: None,
            superseded_generation: None,
            drained_ms: None,
            stopped_ms: None,
            reason: None,
            ended_ms: None,
            end: None,
            crashes: 0,
        }
    }

    /// Returns true if it was promoted, and has ended by itself.
    pub fn has_crashed(&self) -> bool {
        self.crashes > 0
    }
}

// === impl LaunchCause ===

impl LaunchCause {
    /// Returns it in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Start => "start of handoff",
            Self::Artifact => "new artifact",
            Self::Crash => "crash",
            Self::FailedStart => "failed start",
            Self::LiveCheck => "live check",
            Self::Restart => "restart",
            Self::Rollback => "rollback",
            Self::Configuration => "configuration",
            Self::Unknown => "",
        }
    }
}
