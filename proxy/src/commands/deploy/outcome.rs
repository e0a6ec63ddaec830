//! The outcome of a deploy.

use std::sync::Arc;

use crate::commands::follow::RefusalReport;

/// The outcome of a deploy.
pub(super) enum DeployOutcome {
    Active,
    Staged,
    Refused(Arc<str>, RefusalReport),
    Superseded,
    Timeout,
    Idle,
}

// === impl DeployOutcome ===

impl DeployOutcome {
    /// Returns the reason of a refusal, if this is one.
    pub(super) fn refusal(&self) -> Option<&RefusalReport> {
        match self {
            Self::Refused(_, refusal) => Some(refusal),
            Self::Active | Self::Staged | Self::Superseded | Self::Timeout | Self::Idle => None,
        }
    }
}
