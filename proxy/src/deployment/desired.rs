//! Commands for all sidecars of a deployment, beside what to run: `<state>/desired.json`.
//!
//! Deployers write the file, in one step; sidecars only read it. A command counts when it is new:
//! an earlier sidecar has executed what the file said before, or the start itself has. Only a pause
//! and a stage go on. Each writer keeps the keys that it does not know.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::maintenance::MaintenanceCommand;
use super::rollout::Rollout;
pub use super::stage::StageCommand;
use super::status::UnixMillis;
pub use super::upgrade::UpgradeCommand;
use crate::os::files;
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

/// A command that was written, until all sidecars have executed it.
#[derive(Clone, Debug)]
pub struct PendingCommand {
    command: ControlCommand,
    written: Desired,
}

/// Writes `command` into the file in the folder `state`.
///
/// The file is read and changed, not replaced: other commands stay, also those of newer versions.
///
/// # Errors
/// When the file cannot be read or written.
pub fn write_command(state: &Path, command: ControlCommand) -> io::Result<PendingCommand> {
    let written = change(state, |desired| desired.apply(&command))?;
    Ok(PendingCommand { command, written })
}

/// Writes a staged roll-out into the file in the folder `state`, or removes the one that is there.
/// Returns the serial that a sidecar publishes, or a higher one, once it has read it.
///
/// # Errors
/// When the file cannot be read or written.
pub fn write_rollout(state: &Path, rollout: Option<Rollout>) -> io::Result<u64> {
    let written = change(state, |desired| desired.rollout = rollout)?;
    Ok(written.serial)
}

/// Returns the staged roll-out in the file in the folder `state`.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn read_rollout(state: &Path) -> io::Result<Option<Rollout>> {
    match files::read_small(&state.join(FILE_NAME)) {
        Ok(content) => Ok(Desired::parse(&content)?.rollout),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

fn change(state: &Path, apply: impl FnOnce(&mut Desired)) -> io::Result<Desired> {
    files::make_folder(state)?;
    let file = state.join(FILE_NAME);
    // What a link leads to may be secret, and all keys are written again.
    let mut desired = match files::read_small_itself(&file) {
        // A file that cannot be understood holds nothing that could be kept.
        Ok(content) => Desired::parse(&content).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => Desired::default(),
        Err(error) => return Err(unreadable(&error)),
    };
    desired.schema = SCHEMA;
    desired.serial = next_serial(desired.serial);
    apply(&mut desired);
    let json = serde_json::to_vec_pretty(&desired)?;
    files::write_atomically(&file, &json)?;
    Ok(desired)
}

fn unreadable(error: &io::Error) -> io::Error {
    let text = format!("{FILE_NAME} cannot be read: {error}");
    io::Error::new(error.kind(), text)
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

    /// Returns the commands that are in this content and were not in `before`, and the problem of
    /// a digest that cannot be parsed; the other commands count all the same.
    ///
    /// Without `before`, which is so at the start of a sidecar, only a pause, a stage and a
    /// maintenance are.
    pub(crate) fn commands_since(
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
    /// differs but the serial.
    fn has_new_retry(&self, before: &Self) -> bool {
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

    /// Adds a command.
    fn apply(&mut self, command: &ControlCommand) {
        match command {
            ControlCommand::Retry(digest) => {
                self.retry = Some(digest.to_string());
                self.end_stage();
            }
            ControlCommand::Stage(stage) => {
                let before = self.stage.as_ref().map_or(0, |before| before.serial);
                let others = self.promote.max(self.abort).unwrap_or(0);
                self.retry = Some(stage.digest.clone());
                self.stage = Some(StageCommand {
                    serial: next_serial(before.max(others)),
                    ..stage.clone()
                });
            }
            ControlCommand::Promote => self.promote = Some(self.next_stage_serial(self.promote)),
            ControlCommand::Abort => self.abort = Some(self.next_stage_serial(self.abort)),
            ControlCommand::Rollback(to) => {
                let before = self.rollback.as_ref().map_or(0, |before| before.serial);
                self.rollback = Some(RollbackCommand {
                    to: to.clone(),
                    serial: next_serial(before),
                    unknown: Map::new(),
                });
            }
            ControlCommand::Restart => {
                self.restart = Some(next_serial(self.restart.unwrap_or(0)));
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

    /// Ends the stage, as something is deployed that is not to wait: if it is what waits, it is
    /// promoted.
    fn end_stage(&mut self) {
        let waits = self.unpromoted().filter(|stage| stage.max_ms > 0);
        if waits.is_some_and(|stage| self.retry.as_deref() == Some(&stage.digest)) {
            self.promote = Some(self.next_stage_serial(self.promote));
        } else {
            self.stage = None;
        }
    }

    fn next_stage_serial(&self, before: Option<u64>) -> u64 {
        let stage = self.stage.as_ref().map_or(0, |stage| stage.serial);
        next_serial(before.unwrap_or(0).max(stage))
    }
}

/// Returns a serial above `before`. Sidecars may know a higher one, if the file was lost or
/// damaged, but no higher one than the present time.
fn next_serial(before: u64) -> u64 {
    UnixMillis::now().0.max(before.saturating_add(1))
}

// === impl ControlCommand ===

impl ControlCommand {
    /// Returns true if a sidecar that starts later has to know: a maintenance begins or ends, or a
    /// pause that it would execute.
    pub(crate) fn is_lasting(&self) -> bool {
        let is_maintenance = matches!(self, Self::BeginMaintenance(_) | Self::EndMaintenance);
        is_maintenance || *self == Self::Resume
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

// === impl PauseCommand ===

impl PauseCommand {
    /// Returns the rest of the hold, if it has not ended.
    fn remaining(&self, now: SystemTime) -> Option<Duration> {
        let until = self.until_ms.saturating_sub(UnixMillis::from(now).0);
        let remaining = Duration::from_millis(until.min(self.max_ms));
        (!remaining.is_zero()).then_some(remaining)
    }
}

// === impl PendingCommand ===

impl PendingCommand {
    /// Returns the serial that a sidecar publishes, or a higher one, once it has read the command.
    pub fn serial(&self) -> u64 {
        self.written.serial
    }

    /// Returns true if the file in the folder `state` still holds the command, as far as it can be read.
    pub fn is_current(&self, state: &Path) -> bool {
        let content = files::read_small(&state.join(FILE_NAME)).unwrap_or_default();
        let Ok(desired) = Desired::parse(&content) else {
            return true;
        };
        match self.command {
            ControlCommand::Retry(_) => desired.retry == self.written.retry,
            ControlCommand::Rollback(_) => desired.rollback == self.written.rollback,
            // A later restart replaces the instance for both commands.
            ControlCommand::Restart => desired.restart >= self.written.restart,
            ControlCommand::Pause(_) | ControlCommand::Resume => {
                desired.pause == self.written.pause
            }
            ControlCommand::BeginMaintenance(_) | ControlCommand::EndMaintenance => {
                desired.maintenance == self.written.maintenance
            }
            ControlCommand::Stage(_) => desired.stage == self.written.stage,
            ControlCommand::Promote => desired.promote == self.written.promote,
            ControlCommand::Abort => desired.abort == self.written.abort,
            ControlCommand::Upgrade(_) => desired.upgrade == self.written.upgrade,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn parse(json: &str) -> Desired {
        Desired::parse(json.as_bytes()).unwrap()
    }

    fn new_commands(before: &str, after: &str) -> Vec<ControlCommand> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let (commands, problem) = parse(after).commands_since(Some(&parse(before)), now);
        assert_eq!(problem, None);
        commands
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
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let found = r#"{"serial":3,"restart":2,"pause":{"until_ms":160000,"max_ms":30000}}"#;
        let (commands, _) = parse(found).commands_since(None, now);
        assert_eq!(commands, [ControlCommand::Pause(Duration::from_secs(30))]);
    }

    #[test]
    fn a_maintenance_lasts_until_its_key_is_removed_and_longer_than_a_sidecar() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let on = r#"{"serial":3,"maintenance":{"message":"soon","allow":["10.0.0.0/8"]}}"#;
        let Some(maintenance) = parse(on).maintenance else {
            panic!("it is there");
        };
        let begin = [ControlCommand::BeginMaintenance(maintenance)];
        assert_eq!(parse(on).commands_since(None, now).0, begin);
        assert_eq!(new_commands("{}", on), begin);
        assert_eq!(new_commands(on, on), []);
        let off = r#"{"serial":4,"maintenance":null}"#;
        assert_eq!(new_commands(on, off), [ControlCommand::EndMaintenance]);
        assert_eq!(parse(off).commands_since(None, now).0, []);
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
            commands.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let since = |desired: &Desired, before: &Desired| {
            let (commands, _) = desired.commands_since(Some(before), now);
            commands.iter().map(ToString::to_string).collect::<Vec<_>>()
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

    /// The file as any program reads it.
    fn read(state: &Path) -> Value {
        serde_json::from_slice(&fs::read(state.join(FILE_NAME)).unwrap()).unwrap()
    }

    fn digest(digits: &str) -> Digest {
        Digest::parse(&digits.repeat(32)).unwrap()
    }

    #[test]
    fn each_command_has_a_higher_serial_and_leaves_the_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new");
        let number = |value: &Value| value.as_u64().unwrap();
        let first = write_command(&state, ControlCommand::Retry(digest("a1"))).unwrap();
        assert_eq!(number(&read(&state)["serial"]), first.serial());
        let high = u64::MAX / 2;
        let others = format!(
            "\u{feff}{{\"serial\":{high},\"pause\":{{\"until_ms\":1,\"of_tomorrow\":2}},\
             \"of_tomorrow\":true,\"retry\":null,\
             \"rollback\":{{\"to\":\"v1\",\"serial\":{high}}}}}"
        );
        fs::write(state.join(FILE_NAME), others).unwrap();
        write_command(&state, ControlCommand::Retry(digest("a2"))).unwrap();
        let desired = read(&state);
        assert_eq!(desired["serial"], high + 1);
        assert_eq!(desired["retry"], digest("a2").to_string());
        assert_eq!(desired["pause"]["until_ms"], 1);
        assert_eq!(desired["pause"]["of_tomorrow"], 2);
        assert_eq!(desired["of_tomorrow"], true);

        write_command(&state, ControlCommand::Rollback(None)).unwrap();
        let restarted = write_command(&state, ControlCommand::Restart).unwrap();
        assert_eq!(restarted.serial(), high + 3);
        let desired = read(&state);
        let rollback = json!({"to": null, "serial": high + 1});
        assert_eq!(desired["rollback"], rollback);
        assert!(number(&desired["restart"]) >= first.serial());
    }

    #[test]
    fn no_serial_falls_when_the_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let file = state.join(FILE_NAME);
        let mut last = (0, 0);
        for damage in 0..3 {
            match damage {
                0 => {}
                1 => fs::remove_file(&file).unwrap(),
                _ => fs::write(&file, "").unwrap(),
            }
            while UnixMillis::now().0 <= last.0 {}
            write_command(state, ControlCommand::Rollback(None)).unwrap();
            let restarted = write_command(state, ControlCommand::Restart).unwrap();
            let rollback = read(state)["rollback"]["serial"].as_u64().unwrap();
            let now = (restarted.serial(), rollback);
            assert!(now.0 > last.0 && now.1 > last.1, "{now:?} after {last:?}");
            last = now;
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FILE_NAME)).unwrap();
        let error = write_command(folder.path(), ControlCommand::Restart).unwrap_err();
        assert!(error.to_string().contains(FILE_NAME), "{error}");
    }

    #[test]
    fn what_somebody_else_asks_for_takes_its_place_but_for_one_more_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let write = |command| write_command(state, command).unwrap();
        let restarted = write(ControlCommand::Restart);
        let paused = write(ControlCommand::Pause(Duration::from_secs(9)));
        write(ControlCommand::Restart);
        assert!(restarted.is_current(state) && paused.is_current(state));
        let resumed = write(ControlCommand::Resume);
        assert!(resumed.is_current(state) && !paused.is_current(state));
        fs::write(state.join(FILE_NAME), "{").unwrap();
        assert!(paused.is_current(state), "nobody knows");
    }
}
