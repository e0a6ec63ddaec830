//! One start of a server process: command line, environment, folder, output.
//!
//! On Linux a `web.config` still speaks of Windows. So that the very file that is deployed can be
//! tested, what it says is mapped there, after the expansion of its variables:
//! - the program: `\` is `/`, a leading `\\?\` and a final `.exe` are left out;
//! - the arguments: split as Windows programs do it, then `\` is `/` in each of them;
//! - variables' values and the log's path: `\` is `/`, a leading `\\?\` is left out.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::expand::Environment;
use super::web_config::WebConfig;

const PORT: &str = "HTTP_PLATFORM_PORT";

/// Settings of a start that are not in the file.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) config: &'a WebConfig,
    /// The worker process's own environment.
    pub(super) worker: &'a Environment,
    /// The site's root: `wwwroot`.
    pub(super) root: &'a Path,
    pub(super) port: u16,
    /// The token that a shutdown request carries, if there is one.
    pub(super) token: Option<&'a str>,
    /// Ends the name of the log.
    pub(super) log_suffix: &'a str,
    /// A console for the process, on Windows.
    pub(super) gives_console: bool,
}

// === impl Launch ===

impl Launch<'_> {
    /// All that, as a command.
    pub(super) fn command(&self) -> io::Result<Command> {
        // IIS expands with the worker's variables only; the module fills in the port.
        let expand = |text: &str| {
            let mut port = Environment::default();
            port.set(PORT, &self.port.to_string());
            port.expand(&self.worker.expand(text))
        };
        let program = path_in(&self.worker.expand(&self.config.process_path), self.root);
        let mut command = Command::new(executable(program));
        let text = expand(&self.config.arguments);
        arguments(&mut command, &text, self.gives_console);
        command.env_clear().current_dir(self.root);
        for (name, value) in self.worker.iter() {
            command.env(name, value);
        }
        command.env(PORT, self.port.to_string());
        command.env("HTTP_PLATFORM_APPL_PATH", "/");
        for name in ["HTTP_PLATFORM_TOKEN", "ASPNETCORE_TOKEN"] {
            if let Some(token) = self.token {
                command.env(name, token);
            }
        }
        for (name, value) in &self.config.environment {
            command.env(name, native(&expand(value)));
        }
        let output = self.output()?;
        command.stdout(output.try_clone()?).stderr(output);
        // INVALID_HANDLE_VALUE: reading fails.
        command.stdin(Stdio::from(File::options().write(true).open(NOWHERE)?));
        Ok(command)
    }

    /// One file a process, or nothing.
    fn output(&self) -> io::Result<File> {
        let log = match &self.config.stdout_log_file {
            Some(log) => path_in(&self.worker.expand(log), self.root),
            None => return File::options().write(true).open(NOWHERE),
        };
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut name = log.into_os_string();
        name.push(format!("_{}.log", self.log_suffix));
        File::options().create(true).append(true).open(name)
    }
}

/// Returns the path of the program that a `web.config` names.
pub(super) fn program(config: &WebConfig, worker: &Environment, root: &Path) -> PathBuf {
    executable(path_in(&worker.expand(&config.process_path), root))
}

/// Paths that begin with a dot are relative to the site.
pub(super) fn path_in(text: &str, root: &Path) -> PathBuf {
    let text = native(text);
    if text.starts_with('.') {
        root.join(text)
    } else {
        text.into()
    }
}

#[cfg(windows)]
const NOWHERE: &str = "NUL";
#[cfg(unix)]
const NOWHERE: &str = "/dev/null";

#[cfg(windows)]
fn native(text: &str) -> String {
    text.to_owned()
}

#[cfg(unix)]
fn native(text: &str) -> String {
    let text = text.strip_prefix(r"\\?\").unwrap_or(text);
    text.replace('\\', "/")
}

#[cfg(windows)]
fn executable(program: PathBuf) -> PathBuf {
    program
}

#[cfg(unix)]
fn executable(program: PathBuf) -> PathBuf {
    let is_exe = program.extension().is_some_and(|suffix| suffix == "exe");
    if is_exe {
        program.with_extension("")
    } else {
        program
    }
}

#[cfg(windows)]
fn arguments(command: &mut Command, text: &str, gives_console: bool) {
    use std::os::windows::process::CommandExt as _;
    use windows_sys::Win32::System::Threading::{CREATE_NO_WINDOW, DETACHED_PROCESS};

    command.raw_arg(text).creation_flags(if gives_console {
        CREATE_NO_WINDOW
    } else {
        DETACHED_PROCESS
    });
}

#[cfg(unix)]
fn arguments(command: &mut Command, text: &str, _gives_console: bool) {
    let arguments = super::expand::split(text);
    command.args(arguments.iter().map(|argument| native(argument)));
}
