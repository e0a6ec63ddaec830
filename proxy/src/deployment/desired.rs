//! Commands for all sidecars of a deployment, beside what to run: `<state>/desired.json`.
//!
//! Deployers write the file, in one step; sidecars only read it. A command counts when it is new:
//! an earlier sidecar has executed what the file said before, or the start itself has. Only a pause
//! and a stage go on. Each writer keeps the keys that it does not know.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::control_command::{ControlCommand, NumberedCommand};
pub use super::maintenance::MaintenanceCommand;
use super::rollout::Rollout;
pub use super::stage::StageCommand;
use super::status::UnixMillis;
pub use super::upgrade::UpgradeCommand;
use crate::release::Digest;

/// Number of the schema. It changes only when a key changes its meaning.
pub(crate) const SCHEMA: u32 = 1;
/// Name of the file in the state folder.
pub(crate) const FILE_NAME: &str = "desired.json";

/// Content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Desired {
    /// Number of the schema.
    pub schema: u32,
    /// Number of the last change; it grows with each one.
    pub serial: u64,
    /// Digest of a refused release that is to be tried again.
    pub retry: Option<String>,
    /// Number of that command; it grows with each one. Versions before 0.2 write none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_serial: Option<u64>,
    /// Return to another release.
    pub rollback: Option<RollbackCommand>,
    /// Number of the last command to replace the instance of the active release; it grows with
    /// each one.
    pub restart: Option<u64>,
    /// Hold on new requests.
    pub pause: Option<PauseCommand>,
    /// Staged roll-out of the deployed artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Refusal of new requests.
    pub maintenance: Option<MaintenanceCommand>,
    /// Content that is not to serve before that is requested.
    pub stage: Option<StageCommand>,
    /// Number of the last command to let the staged content serve; it grows with each one.
    pub promote: Option<u64>,
    /// Number of the last command to give up the staged content; it grows with each one.
    pub abort: Option<u64>,
    /// Upgrade of handoff itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeCommand>,
    /// Keys of newer versions.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Return to another release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollbackCommand {
    /// Name or digest of the release; without it, the release before the active one.
    pub to: Option<String>,
    /// Number of the command; it grows with each one.
    pub serial: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Hold on new requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseCommand {
    /// End of the hold by the clock of the machine that asked for it, in milliseconds since the
    /// Unix epoch.
    pub until_ms: u64,
    /// Maximum duration of the hold from the moment at which a sidecar reads it, in milliseconds.
    pub max_ms: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

// === impl Desired ===

impl Desired {
    /// Parses the content of the file, of any schema.
    ///
    /// # Errors
    /// When it is no such JSON.
    pub fn parse(content: &[u8]) -> serde_json::Result<Self> {
        // Editors on Windows begin a file with a byte order mark.
        serde_json::from_slice(content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content))
    }

    /// Returns the commands that are in this content and were not in `before`, in the order in which
    /// they were written, and the problem of a digest that cannot be parsed; the other commands count
    /// all the same.
    ///
    /// Without `before`, which is so at the start of a sidecar, only a pause, a stage and a
    /// maintenance are.
    pub(crate) fn commands_since(
        &self,
        before: Option<&Self>,
        now: SystemTime,
    ) -> (Vec<NumberedCommand>, Option<String>) {
        let (commands, problem) = self.unordered_since(before, now);
        let number = |command| NumberedCommand {
            serial: self.serial_of(&command),
            command,
        };
        let mut commands: Vec<_> = commands.into_iter().map(number).collect();
        // A pause and a maintenance have no number of their own, and come first.
        commands.sort_by_key(|it| (!it.command.is_of_gate(), it.serial));
        (commands, problem)
    }

    fn unordered_since(
        &self,
        before: Option<&Self>,
        now: SystemTime,
    ) -> (Vec<ControlCommand>, Option<String>) {
        let mut commands = Vec::new();
        let mut problem = None;
        if self.pause.as_ref() != before.and_then(|before| before.pause.as_ref()) {
            let remaining = self.pause.as_ref().and_then(|pause| pause.remaining(now));
            commands.push(remaining.map_or(ControlCommand::Resume, ControlCommand::Pause));
        }
        if self.maintenance.as_ref() != before.and_then(|before| before.maintenance.as_ref()) {
            commands.push(match &self.maintenance {
                Some(maintenance) => ControlCommand::BeginMaintenance(maintenance.clone()),
                None => ControlCommand::EndMaintenance,
            });
        }
        let Some(before) = before else {
            commands.extend(self.unpromoted().map(ControlCommand::Stage));
            return (commands, None);
        };
        if let Some(stage) = &self.stage
            && stage.serial > before.stage.as_ref().map_or(0, |before| before.serial)
        {
            commands.push(ControlCommand::Stage(stage.clone()));
        }
        if self.promote.unwrap_or(0) > before.promote.unwrap_or(0) {
            commands.push(ControlCommand::Promote);
        }
        if self.abort.unwrap_or(0) > before.abort.unwrap_or(0) {
            commands.push(ControlCommand::Abort);
        }
        if let Some(retry) = self.retry.as_deref()
            && self.has_new_retry(before)
        {
            match Digest::parse(retry) {
                Ok(digest) => commands.push(ControlCommand::Retry(digest)),
                Err(error) => problem = Some(format!("retry: {error}")),
            }
        }
        if let Some(rollback) = &self.rollback
            && rollback.serial > before.rollback.as_ref().map_or(0, |before| before.serial)
        {
            commands.push(ControlCommand::Rollback(rollback.to.clone()));
        }
        if self.restart.unwrap_or(0) > before.restart.unwrap_or(0) {
            commands.push(ControlCommand::Restart);
        }
        if let Some(upgrade) = self
            .upgrade
            .as_ref()
            .filter(|it| it.is_after(&before.upgrade))
        {
            commands.push(ControlCommand::Upgrade(upgrade.clone()));
        }
        (commands, problem)
    }

    /// Returns the number of the command of this kind.
    pub(super) fn serial_of(&self, command: &ControlCommand) -> u64 {
        let serial = match command {
            ControlCommand::Retry(_) => self.retry_serial,
            ControlCommand::Rollback(_) => self.rollback.as_ref().map(|it| it.serial),
            ControlCommand::Restart => self.restart,
            ControlCommand::Stage(_) => self.stage.as_ref().map(|it| it.serial),
            ControlCommand::Promote => self.promote,
            ControlCommand::Abort => self.abort,
            ControlCommand::Upgrade(_) => self.upgrade.as_ref().map(|it| it.serial),
            ControlCommand::Pause(_)
            | ControlCommand::Resume
            | ControlCommand::BeginMaintenance(_)
            | ControlCommand::EndMaintenance => None,
        };
        serial.unwrap_or(self.serial)
    }

    /// Returns the commands that a sidecar does not execute if it finds them at its start.
    pub(crate) fn commands_of_before(&self) -> Vec<NumberedCommand> {
        let (mut commands, _) = self.commands_since(Some(&Self::default()), SystemTime::now());
        let goes_on = |it: &ControlCommand| matches!(it, ControlCommand::Stage(_));
        commands.retain(|it| !it.command.is_of_gate() && !goes_on(&it.command));
        commands
    }

    /// Returns the content that has not been promoted since it was staged. If it was given up, its
    /// time is over.
    fn unpromoted(&self) -> Option<StageCommand> {
        let mut stage = self.stage.clone()?;
        if self.promote > Some(stage.serial) {
            return None;
        }
        if self.abort > Some(stage.serial) {
            stage.max_ms = 0;
        }
        Some(stage)
    }

    /// Returns what a file with this content may have said at `moment`, when it could not be read.
    pub(crate) fn assumed_at(&self, moment: UnixMillis) -> Self {
        let is_older = self.serial <= moment.0;
        Self {
            schema: SCHEMA,
            serial: moment.0,
            // Serials are milliseconds, so a command that was written since has a higher one.
            rollback: Some(RollbackCommand {
                serial: moment.0,
                ..RollbackCommand::default()
            }),
            restart: Some(moment.0),
            retry: self.retry.clone().filter(|_| is_older),
            retry_serial: Some(moment.0),
            pause: None,
            rollout: self.rollout.clone(),
            maintenance: None,
            stage: None,
            promote: Some(moment.0),
            abort: Some(moment.0),
            upgrade: self.upgrade.clone().filter(|it| it.serial <= moment.0),
            unknown: Map::new(),
        }
    }

    /// Returns true if `retry` is newer than `before`. The same release may be retried twice: then nothing
    /// differs but the serial, if its writer does not number it.
    fn has_new_retry(&self, before: &Self) -> bool {
        if self.retry_serial > before.retry_serial {
            return true;
        }
        let is_otherwise_equal = self.rollback == before.rollback
            && self.restart == before.restart
            && self.pause == before.pause
            && self.rollout == before.rollout
            && self.promote == before.promote
            && self.abort == before.abort
            && self.upgrade == before.upgrade
            && self.maintenance == before.maintenance;
        self.retry != before.retry || self.serial > before.serial && is_otherwise_equal
    }

    /// Adds a command. Its number is the serial of the file, unless somebody has written a higher one.
    pub(super) fn apply(&mut self, command: &ControlCommand) {
        match command {
            ControlCommand::Retry(digest) => self.retry(digest.to_string()),
            ControlCommand::Stage(stage) => {
                let before = self.stage.as_ref().map_or(0, |before| before.serial);
                let others = self.promote.max(self.abort).unwrap_or(0);
                self.stage = Some(StageCommand {
                    serial: self.serial_after(before.max(others)),
                    ..stage.clone()
                });
                self.number_retry(stage.digest.clone());
            }
            ControlCommand::Promote => self.promote = Some(self.next_stage_serial(self.promote)),
            ControlCommand::Abort => self.abort = Some(self.next_stage_serial(self.abort)),
            ControlCommand::Rollback(to) => {
                let before = self.rollback.as_ref().map_or(0, |before| before.serial);
                self.rollback = Some(RollbackCommand {
                    to: to.clone(),
                    serial: self.serial_after(before),
                    unknown: Map::new(),
                });
            }
            ControlCommand::Restart => {
                self.restart = Some(self.serial_after(self.restart.unwrap_or(0)));
            }
            ControlCommand::Pause(max) => {
                self.pause = Some(PauseCommand {
                    until_ms: UnixMillis::from(SystemTime::now() + *max).0,
                    max_ms: u64::try_from(max.as_millis()).unwrap_or(u64::MAX),
                    unknown: Map::new(),
                });
            }
            ControlCommand::Resume => self.pause = None,
            ControlCommand::BeginMaintenance(maintenance) => {
                self.maintenance = Some(maintenance.clone());
            }
            ControlCommand::EndMaintenance => self.maintenance = None,
            ControlCommand::Upgrade(upgrade) => self.upgrade = Some(upgrade.numbered(self.serial)),
        }
    }

    /// Asks for another try. It ends the stage, as what is deployed is not to wait: if it is what
    /// waits, it is promoted.
    fn retry(&mut self, digest: String) {
        let waits = self.unpromoted().filter(|stage| stage.max_ms > 0);
        if waits.is_some_and(|stage| stage.digest == digest) {
            self.retry = Some(digest);
            self.promote = Some(self.next_stage_serial(self.promote));
        } else {
            self.number_retry(digest);
            self.stage = None;
        }
    }

    fn number_retry(&mut self, digest: String) {
        self.retry = Some(digest);
        self.retry_serial = Some(self.serial_after(self.retry_serial.unwrap_or(0)));
    }

    fn next_stage_serial(&self, before: Option<u64>) -> u64 {
        let stage = self.stage.as_ref().map_or(0, |stage| stage.serial);
        self.serial_after(before.unwrap_or(0).max(stage))
    }

    /// Returns the number of a new command of a kind whose last one had the number `before`.
    fn serial_after(&self, before: u64) -> u64 {
        self.serial.max(before.saturating_add(1))
    }
}

/// Returns a serial above `before`. Sidecars may know a higher one, if the file was lost or
/// damaged, but no higher one than the present time.
pub(super) fn next_serial(before: u64) -> u64 {
    UnixMillis::now().0.max(before.saturating_add(1))
}

// === impl PauseCommand ===

impl PauseCommand {
    /// Returns the rest of the hold, if it has not ended.
    fn remaining(&self, now: SystemTime) -> Option<Duration> {
        let until = self.until_ms.saturating_sub(UnixMillis::from(now).0);
        let remaining = Duration::from_millis(until.min(self.max_ms));
        (!remaining.is_zero()).then_some(remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Desired {
        Desired::parse(json.as_bytes()).unwrap()
    }

    fn new_commands(before: &str, after: &str) -> Vec<ControlCommand> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let (commands, problem) = parse(after).commands_since(Some(&parse(before)), now);
        assert_eq!(problem, None);
        commands.into_iter().map(|it| it.command).collect()
    }

    fn commands_at_start(json: &str) -> Vec<ControlCommand> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let (commands, _) = parse(json).commands_since(None, now);
        commands.into_iter().map(|it| it.command).collect()
    }

    #[test]
    fn only_what_is_new_counts() {
        let before = r#"{"serial":3,"restart":2,"rollback":{"to":null,"serial":1}}"#;
        assert_eq!(new_commands(before, before), []);
        let after = r#"{"serial":4,"restart":3,"rollback":{"to":"v1","serial":2}}"#;
        let rollback = ControlCommand::Rollback(Some("v1".into()));
        assert_eq!(
            new_commands(before, after),
            [rollback, ControlCommand::Restart]
        );
        assert_eq!(new_commands(after, before), []);
        let digest = format!("sha256:{}", "ab".repeat(32));
        let retry = format!(r#"{{"serial":4,"retry":"{digest}"}}"#);
        let again = format!(r#"{{"serial":5,"retry":"{digest}"}}"#);
        let other = format!(r#"{{"serial":6,"retry":"{digest}","restart":1}}"#);
        let digest = Digest::parse(&digest).unwrap();
        let retried = [ControlCommand::Retry(digest)];
        assert_eq!(new_commands("{}", &retry), retried);
        assert_eq!(new_commands(&retry, &again), retried);
        assert_eq!(new_commands(&again, &other), [ControlCommand::Restart]);
    }

    #[test]
    fn what_a_sidecar_finds_at_its_start_was_meant_for_another_but_a_pause_goes_on() {
        let found = r#"{"serial":3,"restart":2,"pause":{"until_ms":160000,"max_ms":30000}}"#;
        let paused = [ControlCommand::Pause(Duration::from_secs(30))];
        assert_eq!(commands_at_start(found), paused);
    }

    #[test]
    fn a_maintenance_lasts_until_its_key_is_removed_and_longer_than_a_sidecar() {
        let on = r#"{"serial":3,"maintenance":{"message":"soon","allow":["10.0.0.0/8"]}}"#;
        let Some(maintenance) = parse(on).maintenance else {
            panic!("it is there");
        };
        let begin = [ControlCommand::BeginMaintenance(maintenance)];
        assert_eq!(commands_at_start(on), begin);
        assert_eq!(new_commands("{}", on), begin);
        assert_eq!(new_commands(on, on), []);
        let off = r#"{"serial":4,"maintenance":null}"#;
        assert_eq!(new_commands(on, off), [ControlCommand::EndMaintenance]);
        assert_eq!(commands_at_start(off), []);
    }

    #[test]
    fn a_stage_goes_on_until_a_promotion_and_a_deploy_without_it_ends_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let digest = |letters: &str| Digest::parse(&letters.repeat(32)).unwrap();
        let (first, other) = (digest("ab"), digest("cd"));
        let stage = StageCommand::new(
            first,
            "secret".to_owned(),
            Duration::ZERO,
            Duration::from_secs(60),
        );
        let mut desired = Desired::default();
        let empty = desired.clone();
        desired.apply(&ControlCommand::Stage(stage));
        let staged = desired.clone();
        let at_start = |desired: &Desired| {
            let (commands, _) = desired.commands_since(None, now);
            names(&commands)
        };
        let since = |desired: &Desired, before: &Desired| {
            let (commands, _) = desired.commands_since(Some(before), now);
            names(&commands)
        };
        let name = format!("stage {first}");
        assert_eq!(at_start(&staged), [name.as_str()]);
        let tried = [name.as_str(), &format!("retry {first}")];
        assert_eq!(since(&staged, &empty), tried);
        for (command, word) in [
            (ControlCommand::Promote, "promote"),
            (ControlCommand::Abort, "abort"),
            (ControlCommand::Retry(first), "promote"),
        ] {
            let mut ended = staged.clone();
            ended.apply(&command);
            assert_eq!(since(&ended, &staged), [word]);
            // One that was given up does not serve after a restart either.
            let left = at_start(&ended);
            assert_eq!(left.is_empty(), word == "promote", "{left:?}");
            let left = ended.unpromoted().map(|stage| stage.remaining(now));
            assert_eq!(left, (word == "abort").then_some(Duration::ZERO));
        }
        let mut ended = staged.clone();
        ended.apply(&ControlCommand::Retry(other));
        assert_eq!(since(&ended, &staged), [format!("retry {other}")]);
        assert_eq!(ended.stage, None);
        assert!(!format!("{staged:?}").contains("secret"));
    }

    #[test]
    fn a_pause_ends_by_either_clock() {
        let pause = |until_ms, max_ms| {
            let json = format!(r#"{{"pause":{{"until_ms":{until_ms},"max_ms":{max_ms}}}}}"#);
            new_commands("{}", &json)
        };
        let paused = |seconds| [ControlCommand::Pause(Duration::from_secs(seconds))];
        assert_eq!(pause(110_000, 60_000), paused(10));
        assert_eq!(pause(900_000, 60_000), paused(60));
        assert_eq!(pause(99_999, 60_000), [ControlCommand::Resume]);
        let json = r#"{"pause":{"until_ms":110000,"max_ms":1}}"#;
        let resumed = new_commands(json, r#"{"pause":null}"#);
        assert_eq!(resumed, [ControlCommand::Resume]);
    }

    fn names(commands: &[NumberedCommand]) -> Vec<String> {
        let names = commands.iter().map(|it| it.command.to_string());
        names.collect()
    }

    #[test]
    fn a_release_that_is_retried_again_beside_another_command_is_retried() {
        let mut desired = Desired::default();
        let write = |desired: &mut Desired, command| {
            desired.serial += 1;
            desired.apply(&command);
        };
        write(&mut desired, ControlCommand::Retry(digest("a1")));
        let before = desired.clone();
        write(&mut desired, ControlCommand::Retry(digest("a1")));
        write(&mut desired, ControlCommand::Restart);
        let (commands, _) = desired.commands_since(Some(&before), SystemTime::now());
        assert_eq!(commands.len(), 2, "{commands:?}");
    }

    fn digest(digits: &str) -> Digest {
        Digest::parse(&digits.repeat(32)).unwrap()
    }
}
