//! The command of the event hook: its words, its program, and one run of it.

use std::io;
use std::path::Path;
use std::process::Stdio;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::os::inherit;
use crate::process::command::keep_own_settings;
use crate::process::program::{self, SearchPath};
use crate::process::variables::Variables;

/// Returns the program that `command` runs. A mistake in it would otherwise be found only when the
/// first event is lost.
///
/// # Errors
/// There is no such program.
pub fn program(command: &str) -> Result<String, String> {
    let (name, _) = words(command, |path| Path::new(path).is_file());
    let search_path = SearchPath {
        folders: &program::path_variable(&Variables::default()),
        workdir: Path::new(""),
    };
    match program::find(name.as_ref(), search_path) {
        Ok(_) => Ok(name.to_owned()),
        Err(missing) => Err(format!("{missing} (--on-event)")),
    }
}

/// Runs `command` with `event` as JSON on its standard input.
pub(super) async fn run(command: &str, event: &impl Serialize) -> io::Result<()> {
    let (program, args) = words(command, |path| Path::new(path).is_file());
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    keep_own_settings(&mut command);
    let mut child = inherit::with_spawn_lock(|| command.spawn())?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut json = serde_json::to_vec(event)?;
        json.push(b'\n');
        // An error means that the command does not read it.
        let _ = stdin.write_all(&json).await;
    }
    let status = child.wait().await?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(status.to_string()))
    }
}

/// Splits a command into its program and arguments. The path of a file may have blanks in it.
fn words(command: &str, is_file: impl Fn(&str) -> bool) -> (&str, Vec<&str>) {
    if is_file(command) {
        return (command, Vec::new());
    }
    let mut words = command.split_whitespace();
    (words.next().unwrap_or_default(), words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_program_and_arguments() {
        let is_file = |path: &str| path == "/opt/my tools/tell";
        assert_eq!(words("/opt/my tools/tell", is_file).0, "/opt/my tools/tell");
        let (program, args) = words("curl -s  https://x", is_file);
        assert_eq!((program, args), ("curl", vec!["-s", "https://x"]));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let this = std::env::current_exe().unwrap().display().to_string();
        assert_eq!(program(&this), Ok(this.clone()));
        for missing in ["no-such-program --now", "./no-such-program"] {
            let error = program(missing).unwrap_err();
            assert!(error.contains("no-such-program"), "{error}");
        }
        assert!(program("").is_err());
    }
}
