//! The outcome of a deploy.

use std::sync::Arc;

use crate::commands::follow::RefusalReport;
use crate::commands::rollout::Progression;

/// The outcome of a deploy.
pub(super) enum DeployOutcome {
    Active,
    Staged,
    Refused(Arc<str>, RefusalReport),
    Superseded,
    Timeout,
    /// An operator has stopped the staged roll-out.
    Stopped,
    Idle,
}

// === impl DeployOutcome ===

impl DeployOutcome {
    /// Returns the reason of a refusal, if this is one.
    pub(super) fn refusal(&self) -> Option<&RefusalReport> {
        match self {
            Self::Refused(_, refusal) => Some(refusal),
            Self::Active
            | Self::Staged
            | Self::Superseded
            | Self::Timeout
            | Self::Stopped
            | Self::Idle => None,
        }
    }
}

impl From<Progression> for DeployOutcome {
    fn from(progression: Progression) -> Self {
        match progression {
            Progression::Complete => Self::Active,
            Progression::Failed(sidecar, refusal) => Self::Refused(sidecar, refusal),
            Progression::Superseded => Self::Superseded,
            Progression::Stopped => Self::Stopped,
            Progression::Late | Progression::Going => Self::Timeout,
        }
    }
}
