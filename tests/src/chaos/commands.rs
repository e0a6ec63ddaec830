//! Commands of handoff at any moment. Each is carried out or says why not; it is never lost.

use super::scene::Scene;
use super::schedule::{Command, Meanwhile};
use crate::command::{self, Ended};
use crate::program::handoff;

/// Long enough for whatever a sidecar may have to do before, and less than [`command::Command::end`]
/// waits.
const TIMEOUT: &str = "45s";
/// The same where a command may not be possible, as while the disk is full.
const SHORT_TIMEOUT: &str = "3s";
/// Longest duration of a pause.
const PAUSE: &str = "2s";
/// The exit codes: done, refused with a reason, no sidecar runs.
const ANSWERS: [i32; 3] = [0, 1, 4];
/// The exit code when a command's time is over.
const LATE: i32 = 3;

// === impl Scene ===

impl Scene {
    /// Gives a command while something else happens.
    pub(super) fn command(&mut self, command: Command, meanwhile: Meanwhile) {
        let started = self.begin(command, TIMEOUT);
        self.disturb(meanwhile);
        self.minds();
        let ended = started.end();
        // What handoff was asked for before it was killed, the next one does not know of.
        let may_be_late = command == Command::Pause || meanwhile == Meanwhile::KillHandoff;
        self.note(command, &ended, may_be_late);
        self.resume(command);
        self.recover();
    }

    /// Gives a command while something is amiss, which may keep handoff from doing it in time.
    pub(super) fn command_in_trouble(&mut self, command: Command) {
        let ended = self.begin(command, SHORT_TIMEOUT).end();
        self.note(command, &ended, true);
        self.resume(command);
    }

    fn begin(&self, command: Command, timeout: &str) -> command::Command {
        let (name, limit) = match command {
            Command::Rollback => ("rollback", ["--timeout", timeout]),
            Command::Restart => ("restart", ["--timeout", timeout]),
            Command::Pause => ("pause", ["--max", PAUSE]),
        };
        self.start(name, &limit)
    }

    fn resume(&self, command: Command) {
        if command == Command::Pause {
            let ended = self.start("resume", &["--timeout", SHORT_TIMEOUT]).end();
            let is_known = ANSWERS.contains(&ended.code) || ended.code == LATE;
            assert!(is_known, "{ended:#?}");
        }
    }

    fn start(&self, name: &str, options: &[&str]) -> command::Command {
        let mut command = handoff();
        command.arg(name).args(options);
        command.arg("--state").arg(self.site.deployment().state());
        command::start(command)
    }

    fn note(&mut self, command: Command, ended: &Ended, may_be_late: bool) {
        let is_answered = ANSWERS.contains(&ended.code) || may_be_late && ended.code == LATE;
        let what = format!("{command:?} is done or refused, not {ended:#?}");
        assert!(is_answered, "{}", self.site.failure(&what));
        self.count(format!("{command:?} {}", ended.code));
    }
}
