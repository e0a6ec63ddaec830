//! A child process that never outlives this one, with its output in a file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::system::System;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program on `system`. Its output is appended to `log`, and no variable of our
    /// environment configures it.
    pub fn spawn<S: AsRef<OsStr>>(
        system: &System,
        program: &Path,
        arguments: &[S],
        log: &Path,
    ) -> io::Result<Self> {
        let mut command = system.command(program);
        command.args(arguments);
        Self::start(command, log)
    }

    /// Starts a command, likewise.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(output.try_clone()?).stderr(output);
        for (name, _) in std::env::vars_os() {
            let configures = name.to_str().is_some_and(|name| {
                name.starts_with("HANDOFF_") || matches!(name, "PORT" | "HTTP_PLATFORM_PORT")
            });
            if configures {
                command.env_remove(name);
            }
        }
        Ok(Self {
            child: command.spawn()?,
        })
    }

    /// Returns its id; none once it has ended.
    #[cfg(target_os = "linux")]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns its exit status if it has ended.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to end, kills it when it has not after `grace`, and waits for its end.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        if self.ask_to_end()
            && let Ok(status) = timeout(grace, self.child.wait()).await
        {
            return status;
        }
        self.child.start_kill()?;
        self.child.wait().await
    }

    /// Asks it to end; returns false if that cannot work.
    #[cfg(unix)]
    fn ask_to_end(&self) -> bool {
        use rustix::process::{Pid, Signal, kill_process};

        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok())
    }

    /// Does nothing: without a console of its own it cannot be asked.
    #[cfg(windows)]
    fn ask_to_end(&self) -> bool {
        false
    }
}

/// Returns the last lines of a log; none if it cannot be read.
pub fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        Process::spawn(&System::Native, Path::new("/bin/sh"), &["-c", script], log).unwrap()
    }

    async fn await_line(log: &Path, line: &str) {
        while !last_lines(log, 9).iter().any(|found| found == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_child_is_asked_to_end_and_may_say_goodbye() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = shell(
            "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done",
            &log,
        );
        await_line(&log, "up").await;
        assert_eq!(child.exited().unwrap(), None);
        assert_eq!(
            child.stop(Duration::from_secs(20)).await.unwrap().code(),
            Some(3)
        );
        assert_eq!(last_lines(&log, 1), ["bye"]);
    }

    #[tokio::test]
    async fn a_child_that_does_not_listen_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = shell("trap '' TERM; echo up; while :; do sleep 0.01; done", &log);
        await_line(&log, "up").await;
        assert_eq!(
            child.stop(Duration::from_millis(50)).await.unwrap().code(),
            None
        );
    }
}
