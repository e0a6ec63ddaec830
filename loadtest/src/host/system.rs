//! The system that handoff is built for and runs on: this one, or Windows by means of Wine.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;

use super::revision::workspace;

/// Cargo's name of Windows.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// Variable that names cargo's runner of such programs; `.ci/wine` sets it.
const RUNNER: &str = "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER";

/// The system on which the programs under test run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum System {
    /// The system of this program.
    Native,
    /// Windows, with this program as the runner.
    Wine(PathBuf),
}

/// An error that fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum WineError {
    #[error("run {program}, which sets Wine up: {source}")]
    Script { program: PathBuf, source: io::Error },
    #[error("set Wine up: {program} ended with {status}")]
    SetUp {
        program: PathBuf,
        status: ExitStatus,
    },
}

// === impl System ===

impl System {
    /// Returns the system that the option `--windows` asks for.
    pub fn from_option(windows: bool) -> Result<Self, WineError> {
        if !windows {
            return Ok(Self::Native);
        }
        eprintln!("The Windows program, under Wine: times are Wine's, and so is the rate (--rate)");
        Self::windows()
    }

    /// Uses the Wine that the environment names, or else sets one up with `.ci/wine`.
    fn windows() -> Result<Self, WineError> {
        if let Some(runner) = env::var_os(RUNNER) {
            return Ok(Self::Wine(runner.into()));
        }
        let program = workspace().join(".ci").join("wine");
        let output = std::process::Command::new(&program)
            .args(["printenv", RUNNER])
            .stderr(Stdio::inherit())
            .output();
        let output = output.map_err(|source| WineError::Script {
            program: program.clone(),
            source,
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.lines().next_back() {
            Some(runner) if output.status.success() => Ok(Self::Wine(runner.into())),
            _ => Err(WineError::SetUp {
                program,
                status: output.status,
            }),
        }
    }

    /// Returns the arguments that make cargo build for it.
    pub fn cargo_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Native => &[],
            Self::Wine(_) => &["--target", TARGET],
        }
    }

    /// Returns the path of the executable `name` in `folder`.
    pub fn executable(&self, folder: &Path, name: &str) -> PathBuf {
        let suffix = match self {
            Self::Native => env::consts::EXE_SUFFIX,
            Self::Wine(_) => ".exe",
        };
        folder.join(format!("{name}{suffix}"))
    }

    /// Converts a path of this system to one of that system.
    pub fn path(&self, path: &Path) -> OsString {
        match self {
            Self::Native => path.into(),
            // Wine's drive Z is the root.
            Self::Wine(_) => format!("Z:{}", path.display()).replace('/', r"\").into(),
        }
    }

    /// Returns the command that runs a program.
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Native => Command::new(program),
            Self::Wine(runner) => {
                let mut command = Command::new(runner);
                command.arg(program);
                command
            }
        }
    }

    /// Copies a file over another, as deployers do: under Wine by its own shell, as the locks of
    /// Windows do not bind programs of this system.
    pub fn copy(&self, source: &Path, target: &Path) -> io::Result<()> {
        let Self::Wine(runner) = self else {
            return fs::copy(source, target).map(drop);
        };
        let mut said = String::new();
        // A Wine that is about to end, because nothing runs on it, may start nothing more.
        for _ in 0..3 {
            let output = std::process::Command::new(runner)
                .args(["cmd", "/c", "copy", "/y", "/b"])
                .args([self.path(source), self.path(target)])
                .stdin(Stdio::null())
                .output()?;
            if output.status.success() {
                return Ok(());
            }
            said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
        Err(io::Error::other(format!("copy said: {said}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_its_system_does() {
        let wine = System::Wine("wine".into());
        let path = Path::new("/tmp/a b/site");
        assert_eq!(wine.path(path), r"Z:\tmp\a b\site");
        assert_eq!(System::Native.path(path), path);
        assert_eq!(wine.executable(path, "v1"), path.join("v1.exe"));
    }
}
