//! handoff's commands, as a deploy script calls them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::binaries::spawn;
use crate::program::handoff;
use crate::release::Release;
use crate::shared::Deployment;
use crate::wait::eventually;

/// A command that is running, and what it has said.
#[derive(Debug)]
pub struct Command {
    child: Child,
    output: TempDir,
}

/// One that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Its whole stdout.
    pub stdout: String,
    /// Its whole stderr.
    pub stderr: String,
}

/// Starts a command.
pub fn start(mut command: std::process::Command) -> Command {
    let output = TempDir::new().expect("a folder");
    let file = |name: &str| File::create(output.path().join(name)).expect("a file");
    command.stdin(Stdio::null());
    command.stdout(file("stdout")).stderr(file("stderr"));
    let child = spawn(&mut command).expect("the command can be started");
    Command { child, output }
}

/// Runs handoff with these arguments.
#[track_caller]
pub fn run(args: &[&str]) -> Ended {
    let mut command = handoff();
    command.args(args);
    start(command).end()
}

impl Deployment {
    /// Builds a release where handoff does not look, and says where.
    pub fn build(&self, release: impl Into<Release>) -> PathBuf {
        let release = release.into();
        let path = self.elsewhere().join(release.file_name());
        release.write_to(&path);
        path
    }

    /// The options that say where it is.
    pub fn place(&self) -> [String; 4] {
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let pointer = self.site().join("_artifact.txt");
        [
            "--pointer".to_owned(),
            text(&pointer),
            "--state".to_owned(),
            text(&self.state()),
        ]
    }

    /// Begins `handoff deploy` of a release, by the pointer.
    #[track_caller]
    pub fn begin_deploy(&self, release: impl Into<Release>, options: &[&str]) -> Command {
        let mut command = handoff();
        command.arg("deploy").arg(self.build(release));
        command.args(self.place()).args(options);
        start(command)
    }

    /// `handoff deploy` of a release, by the pointer, to its end.
    #[track_caller]
    pub fn run_deploy(&self, release: impl Into<Release>, options: &[&str]) -> Ended {
        self.begin_deploy(release, options).end()
    }

    /// Runs a command on it, such as `rollback`, to its end.
    #[track_caller]
    pub fn run_command(&self, name: &str, options: &[&str]) -> Ended {
        let mut command = handoff();
        command.arg(name).args(self.place()).args(options);
        start(command).end()
    }

    /// Returns the content of the pointer file.
    pub fn pointer(&self) -> String {
        let pointer = self.site().join("_artifact.txt");
        fs::read_to_string(pointer).expect("a pointer file")
    }
}

// === impl Command ===

impl Command {
    /// Waits until it says this, on stderr.
    #[track_caller]
    pub fn await_stderr(&self, part: &str) {
        eventually(
            || format!("it says {part:?}, not\n{}", self.said("stderr")),
            || self.said("stderr").contains(part).then_some(()),
        );
    }

    /// Waits until it says this, on stdout.
    #[track_caller]
    pub fn await_stdout(&self, part: &str) {
        eventually(
            || format!("it prints {part:?}, not\n{}", self.said("stdout")),
            || self.said("stdout").contains(part).then_some(()),
        );
    }

    /// Returns its stdout until now.
    pub fn printed(&self) -> String {
        self.said("stdout")
    }

    /// Returns its stderr until now.
    pub fn printed_errors(&self) -> String {
        self.said("stderr")
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let Self { child, output } = &mut self;
        let status = eventually(
            || format!("it ends\n{}", said(output, "stderr")),
            || child.try_wait().expect("its state"),
        );
        Ended {
            code: status.code().expect("an exit code"),
            stdout: self.said("stdout"),
            stderr: self.said("stderr"),
        }
    }

    /// Asserts that it still runs.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("its state");
        assert!(ended.is_none(), "{ended:?}\n{}", self.said("stderr"));
    }

    fn said(&self, name: &str) -> String {
        said(&self.output, name)
    }
}

fn said(output: &TempDir, name: &str) -> String {
    let said = fs::read(output.path().join(name)).unwrap_or_default();
    String::from_utf8_lossy(&said).into_owned()
}

impl Drop for Command {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Ended ===

impl Ended {
    /// Asserts how it ended.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts that it said all of this, on stdout or stderr.
    #[track_caller]
    pub fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            let said = self.stdout.contains(part) || self.stderr.contains(part);
            assert!(said, "it says {part:?}, not {self:#?}");
        }
        self
    }

    /// Returns the JSON that `--json` printed.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let json = serde_json::from_str(&self.stdout);
        json.unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
