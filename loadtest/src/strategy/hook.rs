//! Somebody else's server, and somebody else's deployer: a command that the shell runs.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use tokio::process::Command;

use super::{Strategy, StrategyError};
use crate::numbers::millis;
use crate::process::last_lines;
use crate::release::Release;
use crate::scenario::{Swap, unix_ms};

/// What stands for the number of the release.
const NUMBER: &str = "{n}";

/// So many lines of its output explain why a command failed.
const LINES: usize = 20;

/// A server that runs already and is not ours to stop.
#[derive(Debug)]
pub struct Hook {
    server: SocketAddr,
    /// None when nothing is deployed.
    command: Option<String>,
    /// Here each command's output goes to a file of its own.
    folder: PathBuf,
}

impl Hook {
    pub fn new(server: SocketAddr, command: Option<String>, folder: PathBuf) -> Self {
        Self {
            server,
            command,
            folder,
        }
    }
}

impl Strategy for Hook {
    fn server(&self) -> SocketAddr {
        self.server
    }

    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError> {
        let deploys = async {
            let Some(command) = &self.command else {
                return Ok(());
            };
            let line = command.replace(NUMBER, &release.number.to_string());
            let log = self.folder.join(format!("deploy-{}.log", release.number));
            run(shell(&line), &line, release, log).await
        };
        as_long_as(deploys, swap).await
    }

    fn observe(&mut self, _swaps: &mut [Swap]) -> Result<(), StrategyError> {
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        Ok(())
    }
}

/// Of such a swap no more is known than that it begins and ends with what `deploys`.
///
/// # Errors
/// That fails.
pub async fn as_long_as(
    deploys: impl Future<Output = Result<(), StrategyError>>,
    swap: &mut Swap,
) -> Result<(), StrategyError> {
    swap.written_ms = unix_ms();
    let start = Instant::now();
    swap.phases.detected_ms = Some(0);
    deploys.await?;
    let took = Some(millis(start.elapsed()));
    (swap.phases.promoted_ms, swap.phases.stopped_ms) = (took, took);
    Ok(())
}

/// Runs a command that deploys `release` to its end, its output in a file: what it leaves running
/// may go on writing there. `line` names it.
///
/// # Errors
/// It cannot be run or fails; the last that it said is told.
pub async fn run(
    mut command: Command,
    line: &str,
    release: &Release,
    log: PathBuf,
) -> Result<(), StrategyError> {
    let output = || -> io::Result<(File, File)> {
        let file = File::create(&log)?;
        Ok((file.try_clone()?, file))
    };
    let ended = async {
        let (out, err) = output()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command.kill_on_drop(true).status().await
    };
    let failed = |how: String| StrategyError::Command {
        release: release.name(),
        command: line.to_owned(),
        how,
    };
    match ended.await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(ending(status, &last_lines(&log, LINES)))),
        Err(error) => Err(failed(format!("could not be run: {error}"))),
    }
}

fn ending(status: ExitStatus, said: &[String]) -> String {
    if said.is_empty() {
        return format!("ended with {status} and said nothing");
    }
    let said = said.join("\n          ");
    format!("ended with {status}; the last it said:\n          {said}")
}

#[cfg(unix)]
fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

#[cfg(windows)]
fn shell(line: &str) -> Command {
    let mut command = Command::new("cmd");
    // Its own rules of quoting are not those that an argument would be quoted by.
    command.arg("/C").raw_arg(line);
    command
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;

    use super::*;

    async fn deploy(command: &str) -> (Swap, Result<(), StrategyError>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let server = ([127, 0, 0, 1], 1).into();
        let command = command.replace("DIR", folder.path().to_str().unwrap());
        let mut hook = Hook::new(server, Some(command), folder.path().to_owned());
        let mut swap = Swap::of(&Release::numbered(7));
        let result = hook.deploy(&Release::numbered(7), &mut swap).await;
        (swap, result, folder)
    }

    #[tokio::test]
    async fn a_command_is_run_by_the_shell_with_the_number_of_the_release() {
        let (swap, result, folder) = deploy("echo v{n} > DIR/it && echo {n}{n} >> DIR/it").await;
        result.unwrap();
        let written = fs::read_to_string(folder.path().join("it")).unwrap();
        assert_eq!(written, "v7\n77\n");
        assert!(swap.window().1.is_some(), "over when the command is");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_with_the_last_that_it_said() {
        let (swap, result, _folder) =
            deploy("for i in $(seq 30); do echo line $i; done; echo no disk >&2; exit 3").await;
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("deploy v7: `for i in"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("line 30") && error.ends_with("no disk"));
        assert!(!error.contains("line 11\n"), "only the last 20 lines");
        assert_eq!(swap.window().1, None);
        let (_, result, _folder) = deploy("exit 4").await;
        let error = result.unwrap_err().to_string();
        assert!(
            error.ends_with("exit status: 4 and said nothing"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_is_not_waited_for() {
        let (_, result, folder) = deploy("sleep 60 & echo $! > DIR/pid").await;
        result.unwrap();
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
