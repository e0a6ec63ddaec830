//! Starting handoff.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::binaries::{self, spawn};

/// Starts a sidecar that logs in `root`.
pub(crate) fn run(
    program: &Path,
    root: &Path,
    args: &[OsString],
    variables: &[(String, String)],
) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(root.join("log"));
    let mut command = clean(program);
    command
        .args(args)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(File::create(root.join("output")).expect("a file"))
        .stderr(log.expect("a log"));
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt as _;
        use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

        // A console of its own, so that it alone can be asked to stop.
        command.creation_flags(CREATE_NO_WINDOW);
    }
    spawn(&mut command).expect("handoff can be started")
}

/// The program, untouched by what the environment of the tests would tell it.
pub fn handoff() -> Command {
    clean(binaries::handoff())
}

fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let is_setting = name.to_str().is_some_and(|name| {
            name.starts_with("HANDOFF_") || name == "HTTP_PLATFORM_PORT" || name == "PORT"
        });
        if is_setting {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}
