//! The system that handoff is built for and runs on: this one, or Windows as Wine has it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;

use crate::binaries::workspace;

/// What cargo calls it.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// How cargo is told what runs such a program; `.ci/wine` sets it.
const RUNNER: &str = "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER";

/// Where the programs under test run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum System {
    /// Where this one runs.
    Native,
    /// Under Wine, by this program.
    Wine(PathBuf),
}

/// Fits "failed to {…}".
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
    /// Where a person wants it to be, who is told what to know of it.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn asked(windows: bool) -> Result<Self, WineError> {
        let system = match windows {
            true => Self::windows()?,
            false => Self::Native,
        };
        if let Some(remark) = system.remark() {
            eprintln!("{remark}");
        }
        Ok(system)
    }

    /// Windows, under the Wine that the environment names, or else that `.ci/wine` sets up.
    ///
    /// # Errors
    /// It cannot be set up.
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

    /// What a person should know of a run on it.
    fn remark(&self) -> Option<&'static str> {
        match self {
            Self::Native => None,
            Self::Wine(_) => Some(
                "The Windows program, under Wine: times are Wine's, and so is the rate (--rate)",
            ),
        }
    }

    /// The arguments that make cargo build for it.
    pub fn cargo_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Native => &[],
            Self::Wine(_) => &["--target", TARGET],
        }
    }

    /// `name`, as executables are called there.
    pub fn executable(&self, folder: &Path, name: &str) -> PathBuf {
        let suffix = match self {
            Self::Native => env::consts::EXE_SUFFIX,
            Self::Wine(_) => ".exe",
        };
        folder.join(format!("{name}{suffix}"))
    }

    /// A path of ours as programs there know it.
    pub fn path(&self, path: &Path) -> OsString {
        match self {
            Self::Native => path.into(),
            // Wine's drive Z is the root.
            Self::Wine(_) => format!("Z:{}", path.display()).replace('/', r"\").into(),
        }
    }

    /// What runs a program that was built for it.
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

    /// Writes over what is there, as deployers do: under Wine by its own shell, as Windows' locks
    /// are none for programs of this system.
    ///
    /// # Errors
    /// A file could not be read or written.
    pub fn copy(&self, source: &Path, target: &Path) -> io::Result<()> {
        let Self::Wine(runner) = self else {
            return fs::copy(source, target).map(drop);
        };
        let mut said = String::new();
        // A Wine that is about to end, as nothing ran on it, may start nothing more.
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
