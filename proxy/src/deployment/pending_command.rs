//! Writes `desired.json`, and says what becomes of a command there.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control_command::ControlCommand;
use super::desired::{Desired, FILE_NAME, SCHEMA, next_serial};
use super::rollout::Rollout;
use super::unix_millis::UnixMillis;
use crate::os::files;

/// Name of the file that is locked while the other one is changed.
const LOCK_NAME: &str = "desired.lock";
/// Names of the files that keep room for commands on a full disk, and their size in bytes. The first
/// command there is takes one and leaves none.
const RESERVE_NAMES: [&str; 2] = ["desired.reserve", "desired.reserve2"];
const RESERVE: usize = 16 * 1024;
/// Maximum age of a rollback that another one may join: some sidecar may never read it.
const MOMENT: Duration = Duration::from_secs(5);
/// Resolution of the times of files: a tick of the kernel.
const TIME_RESOLUTION: Duration = Duration::from_millis(10);

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
/// The file cannot be read or written.
pub fn write_command(state: &Path, command: ControlCommand) -> io::Result<PendingCommand> {
    let written = change(state, |desired| {
        desired.apply(&command);
        true
    })?;
    Ok(PendingCommand { command, written })
}

/// Requests a rollback to the release before, unless somebody has a moment ago, after the serial
/// `seen`, which a sidecar has published: two who are alarmed by the same release do not go back twice.
///
/// # Errors
/// The file cannot be read or written.
pub fn write_rollback(state: &Path, seen: Option<u64>) -> io::Result<PendingCommand> {
    let command = ControlCommand::Rollback(None);
    let written = change(state, |desired| {
        let before = desired.rollback.as_ref().filter(|it| it.to.is_none());
        let is_new = before.is_none_or(|before| {
            let age = UnixMillis::now().0.abs_diff(before.serial);
            Some(before.serial) <= seen || Duration::from_millis(age) > MOMENT
        });
        if is_new {
            desired.apply(&command);
        }
        is_new
    })?;
    Ok(PendingCommand { command, written })
}

/// Writes a staged roll-out into the file in the folder `state`, or removes the one that is there.
/// Returns the serial that a sidecar publishes, or a higher one, once it has read it.
///
/// # Errors
/// The file cannot be read or written.
pub fn write_rollout(state: &Path, rollout: Option<Rollout>) -> io::Result<u64> {
    let written = change(state, |desired| {
        desired.rollout = rollout;
        true
    })?;
    Ok(written.serial)
}

/// Returns the staged roll-out in the file in the folder `state`.
///
/// # Errors
/// The file cannot be read or understood.
pub fn read_rollout(state: &Path) -> io::Result<Option<Rollout>> {
    match files::read_small(&state.join(FILE_NAME)) {
        Ok(content) => Ok(Desired::parse(&content)?.rollout),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Writes the file with what `apply` changes in it, unless that says that there is nothing to change.
/// Returns the content.
fn change(state: &Path, apply: impl FnOnce(&mut Desired) -> bool) -> io::Result<Desired> {
    files::make_folder(state)?;
    // Where files cannot be locked, a command that is written at the same moment may be lost.
    let _turn = files::lock_exclusive(&state.join(LOCK_NAME)).ok();
    let file = state.join(FILE_NAME);
    // What a link leads to may be secret, and all keys are written again.
    let mut desired = match files::read_small_itself(&file) {
        // A file that cannot be understood holds nothing that could be kept.
        Ok(content) => Desired::parse(&content).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => Desired::default(),
        Err(error) => return Err(unreadable(&error)),
    };
    let before = desired.clone();
    desired.schema = SCHEMA;
    desired.serial = next_serial(desired.serial);
    if !apply(&mut desired) {
        return Ok(before);
    }
    let json = serde_json::to_vec_pretty(&desired)?;
    await_other_time(&file);
    files::write_with_reserve(&file, &reserves(state), RESERVE, &json)?;
    Ok(desired)
}

/// Waits until a file that is written now has another time than the present one. Sidecars see a
/// change by it, as a new file may get the identity of an earlier one.
fn await_other_time(file: &Path) {
    let written = fs::metadata(file).and_then(|metadata| metadata.modified());
    let age = written.map(|written| written.elapsed().unwrap_or_default());
    let left = age.map(|age| TIME_RESOLUTION.saturating_sub(age));
    std::thread::sleep(left.unwrap_or_default());
}

/// Keeps room for a command on a full disk, as far as that is possible.
pub(crate) fn keep_room(state: &Path) {
    for reserve in reserves(state) {
        let _ = files::keep_reserve(&reserve, RESERVE);
    }
}

fn reserves(state: &Path) -> [PathBuf; 2] {
    RESERVE_NAMES.map(|name| state.join(name))
}

fn unreadable(error: &io::Error) -> io::Error {
    let text = format!("{FILE_NAME} cannot be read: {error}");
    io::Error::new(error.kind(), text)
}

// === impl PendingCommand ===

impl PendingCommand {
    /// Returns the serial that a sidecar publishes, or a higher one, once it has read the command.
    pub fn serial(&self) -> u64 {
        self.written.serial
    }

    /// Returns the number of the command among those of its kind.
    pub fn number(&self) -> u64 {
        self.written.serial_of(&self.command)
    }

    /// Returns the command that has taken its place in the file in the folder `state`, as far as that
    /// can be read.
    pub fn replaced_by(&self, state: &Path) -> Option<String> {
        let content = files::read_small(&state.join(FILE_NAME)).unwrap_or_default();
        let desired = Desired::parse(&content).ok()?;
        let written = &self.written;
        let (is_same, by) = match &self.command {
            ControlCommand::Retry(_) => (desired.retry == written.retry, "deploy"),
            ControlCommand::Rollback(_) => (desired.rollback == written.rollback, "rollback"),
            // A later one does it for both.
            ControlCommand::Restart => (desired.restart >= written.restart, "restart"),
            ControlCommand::Promote => (desired.promote >= written.promote, "promote"),
            ControlCommand::Abort => (desired.abort >= written.abort, "abort"),
            ControlCommand::Pause(_) | ControlCommand::Resume => {
                let by = desired.pause.as_ref().map_or("resume", |_| "pause");
                (desired.pause == written.pause, by)
            }
            ControlCommand::BeginMaintenance(_) | ControlCommand::EndMaintenance => {
                let maintenance = desired.maintenance.as_ref();
                let by = maintenance.map_or("maintenance off", |_| "maintenance on");
                (desired.maintenance == written.maintenance, by)
            }
            ControlCommand::Stage(_) => (desired.stage == written.stage, "deploy"),
            ControlCommand::Upgrade(_) => (desired.upgrade == written.upgrade, "upgrade"),
        };
        (!is_same).then(|| by.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::{Value, json};

    use super::*;
    use crate::deployment::desired::NumberedCommand;
    use crate::release::Digest;

    /// The file as any program reads it.
    fn read(state: &Path) -> Value {
        serde_json::from_slice(&fs::read(state.join(FILE_NAME)).unwrap()).unwrap()
    }

    fn digest(digits: &str) -> Digest {
        Digest::parse(&digits.repeat(32)).unwrap()
    }

    fn names(commands: &[NumberedCommand]) -> Vec<String> {
        let names = commands.iter().map(|it| it.command.to_string());
        names.collect()
    }

    #[test]
    fn what_is_read_at_once_is_executed_in_the_order_in_which_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let to_v1 = || ControlCommand::Rollback(Some("v1".to_owned()));
        for order in [
            [
                ControlCommand::Restart,
                to_v1(),
                ControlCommand::Retry(digest("a1")),
            ],
            [
                to_v1(),
                ControlCommand::Retry(digest("a1")),
                ControlCommand::Restart,
            ],
            [ControlCommand::Abort, ControlCommand::Promote, to_v1()],
        ] {
            let content = fs::read(state.join(FILE_NAME)).unwrap_or_else(|_| b"{}".to_vec());
            let before = Desired::parse(&content).unwrap();
            let written = order
                .clone()
                .map(|command| write_command(state, command).unwrap());
            let after = Desired::parse(&fs::read(state.join(FILE_NAME)).unwrap()).unwrap();
            let (commands, _) = after.commands_since(Some(&before), SystemTime::now());
            let numbers: Vec<_> = commands.iter().map(|it| it.serial).collect();
            assert_eq!(numbers, written.each_ref().map(PendingCommand::number));
            assert_eq!(names(&commands), order.map(|command| command.to_string()));
        }
    }

    #[test]
    fn no_change_is_lost_when_many_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let serials = std::sync::Mutex::new(Vec::new());
        let write = |command| {
            let pending = write_command(state, command).unwrap();
            serials.lock().unwrap().push(pending.serial());
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (write, pause) = (&write, Duration::from_secs(thread + 1));
                scope.spawn(move || {
                    for _ in 0..3 {
                        write(ControlCommand::Restart);
                        write(ControlCommand::Pause(pause));
                    }
                });
            }
        });
        let mut serials = serials.into_inner().unwrap();
        serials.sort_unstable();
        serials.dedup();
        assert_eq!(serials.len(), 4 * 3 * 2, "each has a number of its own");
        assert_eq!(read(state)["serial"].as_u64(), serials.last().copied());
    }

    #[test]
    fn who_asks_for_the_same_rollback_without_having_seen_the_first_joins_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let first = write_rollback(state, None).unwrap();
        let beside = write_rollback(state, None).unwrap();
        assert_eq!(beside.number(), first.number());
        let later = write_rollback(state, Some(first.serial())).unwrap();
        assert!(later.number() > first.number());
        let named = write_command(state, ControlCommand::Rollback(Some("v1".into()))).unwrap();
        let other = write_rollback(state, None).unwrap();
        assert!(
            other.number() > named.number(),
            "it asks for something else"
        );
        // One that a sidecar has not read for long.
        let old = r#"{"rollback":{"to":null,"serial":1000}}"#;
        fs::write(state.join(FILE_NAME), old).unwrap();
        assert!(write_rollback(state, None).unwrap().number() > 1000);
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
        let rollback = json!({"to": null, "serial": high + 2});
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
        assert_eq!(restarted.replaced_by(state), None);
        assert_eq!(paused.replaced_by(state), None);
        let resumed = write(ControlCommand::Resume);
        assert_eq!(resumed.replaced_by(state), None);
        assert_eq!(paused.replaced_by(state).as_deref(), Some("resume"));
        fs::write(state.join(FILE_NAME), "{").unwrap();
        assert_eq!(paused.replaced_by(state), None, "nobody knows");
    }
}
