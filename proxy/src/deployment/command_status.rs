//! The commands that a sidecar has received through `desired.json`, and their ends.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::release::ReleaseId;

/// Maximum number of commands in the list.
const COMMANDS: usize = 20;

/// The last commands, in the order of their execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandList(VecDeque<CommandStatus>);

/// A command that a sidecar has received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    /// Key of the command in `desired.json`.
    pub key: String,
    /// The command as it is typed after `handoff`.
    pub command: String,
    /// Number of the command.
    pub serial: u64,
    /// Its end, if that has come.
    pub outcome: CommandEnd,
    /// Reason why it is not carried out, unless the launches tell.
    pub reason: Option<String>,
    /// Target of a rollback.
    pub rollback_to: Option<ReleaseId>,
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandEnd {
    /// It is carried out, or is of a kind whose end the rest of the status tells.
    Received,
    /// A rollback or a restart has been carried out.
    Done,
    /// It is not carried out.
    Refused,
    /// Another command or release has taken its place.
    Superseded,
    /// An end that only newer versions know.
    #[serde(other)]
    Unknown,
}

// === impl CommandList ===

impl CommandList {
    /// Adds a command.
    pub fn add(&mut self, command: CommandStatus) {
        let excess = (self.0.len() + 1).saturating_sub(COMMANDS);
        self.0.drain(..excess);
        self.0.push_back(command);
    }

    /// Returns the command of this key that has this number, or else the one that was executed instead
    /// of it.
    pub fn find(&self, key: &str, serial: u64) -> Option<&CommandStatus> {
        let mut commands = self.0.iter();
        commands.find(|command| command.key == key && command.serial >= serial)
    }

    /// Returns the command that was added last.
    pub fn last_mut(&mut self) -> Option<&mut CommandStatus> {
        self.0.back_mut()
    }

    /// Returns the commands without an end.
    pub fn open_mut(&mut self) -> impl Iterator<Item = &mut CommandStatus> {
        let commands = self.0.iter_mut();
        commands.filter(|command| command.outcome == CommandEnd::Received)
    }
}
