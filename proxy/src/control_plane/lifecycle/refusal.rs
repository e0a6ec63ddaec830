//! The reasons for refusing a release.

/// The reason for refusing a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCause {
    /// It did not start, or did not stay up.
    Failed,
    /// Its liveness check failed during the trial.
    LivenessLost,
    /// It answered with more errors than the release before during the trial.
    TooManyErrors,
    /// A rollback was requested.
    RolledBack,
    /// It was staged, and given up by request.
    Aborted,
    /// It was staged, and not promoted in time.
    Expired,
}

// === impl RefusalCause ===

impl RefusalCause {
    /// Returns `true` if the release has not failed: it was not wanted, or not promoted in time.
    pub fn is_withdrawal(self) -> bool {
        matches!(self, Self::RolledBack | Self::Aborted | Self::Expired)
    }
}
