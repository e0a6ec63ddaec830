//! Console events, by which Windows asks a program to stop.
//!
//! An event reaches only processes that share the sender's console, and Ctrl-C always all of them. If
//! the app has a console of its own, a helper sends the event there: this program, started again with
//! a hidden subcommand. A process has one console at a time, and this one has to keep its own to
//! receive events itself.

use std::io;
use std::str::FromStr;

/// Subcommand of the helper: `handoff send-console-event ctrl-c PID`.
pub const SUBCOMMAND: &str = "send-console-event";

/// An event that can be sent to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// Ctrl-C, sent to all processes of a console.
    CtrlC,
    /// Ctrl-Break, sent to one group of processes.
    CtrlBreak,
}

// === impl ConsoleEvent ===

impl ConsoleEvent {
    /// Returns its name on the command line of the helper.
    fn name(self) -> &'static str {
        match self {
            Self::CtrlC => "ctrl-c",
            Self::CtrlBreak => "ctrl-break",
        }
    }
}

impl FromStr for ConsoleEvent {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = [Self::CtrlC, Self::CtrlBreak].into_iter();
        all.find(|event| event.name() == name)
            .ok_or("expected ctrl-c or ctrl-break")
    }
}

/// Attaches this process, which is the helper, to the console of the process `pid`, and sends the
/// event there.
///
/// # Errors
/// The system refuses, or has no consoles.
pub fn send_from_within(event: ConsoleEvent, pid: u32) -> io::Result<()> {
    os::send_from_within(event, pid)
}

#[cfg(windows)]
pub(super) use os::{enable_ctrl_c, has_console, send};

#[cfg(unix)]
mod os {
    use std::io;

    use super::ConsoleEvent;

    pub(super) fn send_from_within(_: ConsoleEvent, _: u32) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "console events exist on Windows only",
        ))
    }
}

#[cfg(windows)]
#[expect(unsafe_code, reason = "consoles have no safe interface")]
mod os {
    use std::io;
    use std::process::Stdio;

    use tokio::process::Command;
    use windows_sys::Win32::System::Console::{
        AttachConsole, CTRL_BREAK_EVENT, CTRL_C_EVENT, FreeConsole, GenerateConsoleCtrlEvent,
        GetConsoleCP, SetConsoleCtrlHandler,
    };
    use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

    use super::{ConsoleEvent, SUBCOMMAND};
    use crate::os::inherit;

    /// Returns whether this process has a console that a child can share.
    pub(crate) fn has_console() -> bool {
        // SAFETY: takes nothing; zero means that there is none.
        unsafe { GetConsoleCP() != 0 }
    }

    /// Stops ignoring Ctrl-C, which children inherit: a process that was started in a group of its own
    /// ignores it.
    pub(crate) fn enable_ctrl_c() {
        // SAFETY: no handler is passed: the call only clears a flag.
        unsafe { SetConsoleCtrlHandler(None, 0) };
    }

    /// Sends an event to the process `pid`, the first of its group.
    pub(crate) async fn send(event: ConsoleEvent, pid: u32) -> io::Result<()> {
        if event == ConsoleEvent::CtrlBreak && has_console() {
            // SAFETY: takes two integers.
            let sent = check(unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, pid) });
            if sent.is_ok() {
                return sent;
            }
        }
        send_by_helper(event, pid).await
    }

    async fn send_by_helper(event: ConsoleEvent, pid: u32) -> io::Result<()> {
        let mut helper = Command::new(std::env::current_exe()?);
        helper
            .args([SUBCOMMAND, event.name(), &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .creation_flags(CREATE_NO_WINDOW)
            .kill_on_drop(true);
        let helper = inherit::with_spawn_lock(|| helper.spawn())?;
        let helper = helper.wait_with_output().await?;
        if helper.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&helper.stderr);
        let said = said.trim().to_owned();
        Err(io::Error::other(if said.is_empty() {
            format!("{SUBCOMMAND} ended with {}", helper.status)
        } else {
            said
        }))
    }

    pub(super) fn send_from_within(event: ConsoleEvent, pid: u32) -> io::Result<()> {
        // SAFETY: takes nothing; an error means that there was none.
        unsafe { FreeConsole() };
        // SAFETY: takes an integer.
        check(unsafe { AttachConsole(pid) })?;
        // SAFETY: no handler is passed: the call only sets the flag to ignore Ctrl-C, our own too.
        check(unsafe { SetConsoleCtrlHandler(None, 1) })?;
        let (event, group) = match event {
            // "This signal cannot be limited to a specific process group" (GenerateConsoleCtrlEvent).
            ConsoleEvent::CtrlC => (CTRL_C_EVENT, 0),
            ConsoleEvent::CtrlBreak => (CTRL_BREAK_EVENT, pid),
        };
        // SAFETY: takes two integers.
        check(unsafe { GenerateConsoleCtrlEvent(event, group) })
    }

    fn check(result: i32) -> io::Result<()> {
        match result {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}
