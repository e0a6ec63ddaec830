//! A command to all sidecars of a deployment.

use std::fmt;
use std::time::Duration;

use super::maintenance::MaintenanceCommand;
use super::stage::StageCommand;
use super::upgrade::UpgradeCommand;
use crate::release::Digest;

/// One command to all sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlCommand {
    /// Try this content again, also if it was refused before.
    Retry(Digest),
    /// Return to this release, or to the one before.
    Rollback(Option<String>),
    /// Replace the instance of the active release by a new one.
    Restart,
    /// Hold new requests for this duration.
    Pause(Duration),
    /// Forward new requests again.
    Resume,
    /// Refuse new requests.
    BeginMaintenance(MaintenanceCommand),
    /// Forward new requests again.
    EndMaintenance,
    /// Try this content, and let it wait until its promotion.
    Stage(StageCommand),
    /// Let the staged content serve.
    Promote,
    /// Give up the staged content.
    Abort,
    /// Let another version of handoff go on.
    Upgrade(UpgradeCommand),
}

/// A command and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedCommand {
    /// The command.
    pub command: ControlCommand,
    /// Its number.
    pub serial: u64,
}

// === impl ControlCommand ===

impl ControlCommand {
    /// Returns true if a sidecar that starts later has to know: a maintenance begins or ends, or a
    /// pause that it would execute.
    pub(crate) fn is_lasting(&self) -> bool {
        let is_maintenance = matches!(self, Self::BeginMaintenance(_) | Self::EndMaintenance);
        is_maintenance || *self == Self::Resume
    }

    /// Returns the key of the command in the file.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Retry(_) => "retry",
            Self::Rollback(_) => "rollback",
            Self::Restart => "restart",
            Self::Pause(_) | Self::Resume => "pause",
            Self::BeginMaintenance(_) | Self::EndMaintenance => "maintenance",
            Self::Stage(_) => "stage",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Upgrade(_) => "upgrade",
        }
    }

    /// Returns true if it opens or shuts the gate of the router, and changes no instance.
    pub(crate) fn is_of_gate(&self) -> bool {
        matches!(self.key(), "pause" | "maintenance")
    }
}

impl fmt::Display for ControlCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(digest) => write!(f, "retry {digest}"),
            Self::Rollback(None) => f.write_str("rollback"),
            Self::Rollback(Some(to)) => write!(f, "rollback {to}"),
            Self::Restart => f.write_str("restart"),
            Self::Pause(max) => write!(f, "pause for {}", humantime::format_duration(*max)),
            Self::Resume => f.write_str("resume"),
            Self::BeginMaintenance(_) => f.write_str("maintenance on"),
            Self::EndMaintenance => f.write_str("maintenance off"),
            Self::Stage(stage) => write!(f, "stage {}", stage.digest),
            Self::Promote => f.write_str("promote"),
            Self::Abort => f.write_str("abort"),
            Self::Upgrade(upgrade) => write!(f, "upgrade to {}", upgrade.program.display()),
        }
    }
}
