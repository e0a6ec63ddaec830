//! Settings of the supervisor: how instances are started, checked and ended.

use std::path::PathBuf;
use std::time::Duration;

use super::before_start::BeforeStartSettings;
use super::lifecycle::Policy;
use super::liveness::Liveness;
use super::readiness::Readiness;
use super::step::StepSettings;
use crate::deployment::canary::CanaryPlan;
use crate::process::stop::Stop;
use crate::process::template::Command;
use crate::process::variables::Variables;

/// Settings of the supervisor.
#[derive(Clone, Debug)]
pub struct SupervisorSettings {
    /// Command line of the app.
    pub command: Command,
    /// The app's own variables.
    pub environment: Variables,
    /// Folder for data that outlives a release: `{shared}`.
    pub shared: PathBuf,
    /// Check that gates promotion.
    pub readiness: Readiness,
    /// Command that runs once before a release starts for the first time (`--before-start`).
    pub before_start: Option<BeforeStartSettings>,
    /// Command that checks an instance that is ready (`--verify`).
    pub verify: Option<StepSettings>,
    /// Maximum time from a launch to readiness while nothing has served yet.
    pub start_timeout: Duration,
    /// Maximum time from a launch to readiness once something has served.
    pub deploy_timeout: Duration,
    /// Maximum time for the requests in flight to a superseded instance.
    pub drain_timeout: Duration,
    /// Maximum time for its upgraded connections and event streams.
    pub tunnel_drain_timeout: Duration,
    /// Time from the request to stop to the kill.
    pub stop_timeout: Duration,
    /// Way in which an instance is asked to stop.
    pub stop: Stop,
    /// Maximum number of draining instances; the oldest beyond it is evicted.
    pub max_draining: usize,
    /// Number of crashes before an instance settles after which its release is given up.
    pub rapid_fails: u32,
    /// True if two instances may run side by side.
    pub can_overlap: bool,
    /// Sessions at superseded instances; `None` lets nobody go on reaching them.
    pub sessions: Option<SessionSettings>,
    /// Stages in which each new release gets a share of new clients before it serves.
    pub canary: Option<CanaryPlan>,
    /// Check of the active instance.
    pub liveness: Liveness,
    /// Time without an answer after which the active instance is reported; zero is never.
    pub unresponsive_after: Duration,
    /// Time for which a superseded instance is kept on standby.
    pub bake: Duration,
    /// Rise of the share of errors (0 to 1) above which the trial has failed.
    pub bake_max_errors: Option<f64>,
    /// True if the sidecar goes back to another release without being asked.
    pub may_go_back: bool,
    /// Maximum time from one status to the next while nothing goes on.
    pub heartbeat: Duration,
    /// Names of further ports for the app.
    pub port_names: Vec<String>,
}

/// The life of sessions at a superseded instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Maximum time from the handoff.
    pub timeout: Duration,
    /// Maximum time without a request of any of its clients.
    pub idle: Duration,
}

// === impl SupervisorSettings ===

impl SupervisorSettings {
    /// Returns the part that the lifecycle decides by.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            max_draining: self.max_draining,
            rapid_fails: self.rapid_fails,
            can_overlap: self.can_overlap,
            has_trials: !self.bake.is_zero(),
            may_go_back: self.may_go_back,
            has_sessions: self.sessions.is_some(),
        }
    }
}
