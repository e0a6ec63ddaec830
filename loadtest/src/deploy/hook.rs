//! A running server of others, and their deployer: a command that the shell runs.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use tokio::process::Command;

use super::release::Release;
use super::swap::{Swap, unix_ms};
use super::{Strategy, StrategyError};
use crate::host::process::last_lines;
use crate::units::millis;

/// Placeholder of the number of the release.
const NUMBER: &str = "{n}";

/// Number of lines of output that explain the failure of a command.
const LINES: usize = 20;

/// A running server, which is not stopped.
#[derive(Debug)]
pub struct Hook {
    server: SocketAddr,
    /// Command that deploys; none if nothing is deployed.
    command: Option<String>,
    /// Folder for the output of the commands, one file each.
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
            run_command(shell(&line), &line, release, log).await
        };
        time_deploy(deploys, swap).await
    }

    fn observe(&mut self, _swaps: &mut [Swap]) -> Result<(), StrategyError> {
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        Ok(())
    }
}

/// Runs `deploys` and notes its time, as no more is known of such a swap.
pub async fn time_deploy(
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

/// Runs a command that deploys `release`, with its output in a file: processes that it leaves behind
/// may go on writing there. Errors name the command by `line`.
pub async fn run_command(
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
        Ok(status) => Err(failed(describe(status, &last_lines(&log, LINES)))),
        Err(error) => Err(failed(format!("could not be run: {error}"))),
    }
}

fn describe(status: ExitStatus, said: &[String]) -> String {
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
    // Its rules of quoting differ from those by which an argument would be quoted.
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
        assert!(swap.is_over(), "over when the command is");
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
        assert!(!swap.is_over());
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
