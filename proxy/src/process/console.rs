//! Console events: how Windows asks a program to stop.
//!
//! An event reaches only processes that share the sender's console, and Ctrl-C only all of those. So
//! where the app has a console of its own, a helper is sent into it: this program, started once more
//! with a subcommand of its own. A process has one console at a time, and ours has to go on hearing
//! the events that are meant for us.

use std::io;
use std::str::FromStr;

/// The helper's subcommand: `handoff send-console-event ctrl-c PID`.
pub const SUBCOMMAND: &str = "send-console-event";

/// What a program can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// As if somebody pressed Ctrl-C in its console.
    CtrlC,
    /// The same for Ctrl-Break, for one group of processes.
    CtrlBreak,
}

// === impl ConsoleEvent ===

impl ConsoleEvent {
    fn word(self) -> &'static str {
        match self {
            Self::CtrlC => "ctrl-c",
            Self::CtrlBreak => "ctrl-break",
        }
    }
}

impl FromStr for ConsoleEvent {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let mut all = [Self::CtrlC, Self::CtrlBreak].into_iter();
        all.find(|event| event.word() == word)
            .ok_or("expected ctrl-c or ctrl-break")
    }
}

/// Goes into the console of the process `pid` and sends the event there. What the helper does: the
/// calling process is in that console from then on.
///
/// # Errors
/// When the system does not let it, or has no consoles.
pub fn send_from_within(event: ConsoleEvent, pid: u32) -> io::Result<()> {
    os::send_from_within(event, pid)
}

#[cfg(windows)]
pub(super) use os::{have_one, hear_ctrl_c, send};

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

    /// Whether this process has a console that a child can share.
    pub(in super::super) fn have_one() -> bool {
        // SAFETY: takes nothing; zero says that there is none.
        unsafe { GetConsoleCP() != 0 }
    }

    /// Children inherit whether Ctrl-C is ignored, and whoever started us in a process group of our
    /// own has made us ignore it.
    pub(in super::super) fn hear_ctrl_c() {
        // SAFETY: no handler is passed: this only clears the flag.
        unsafe { SetConsoleCtrlHandler(None, 0) };
    }

    /// Sends the process `pid`, the first of its group, an event.
    pub(in super::super) async fn send(event: ConsoleEvent, pid: u32) -> io::Result<()> {
        if event == ConsoleEvent::CtrlBreak && have_one() {
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
            .args([SUBCOMMAND, event.word(), &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .creation_flags(CREATE_NO_WINDOW)
            .kill_on_drop(true);
        let helper = inherit::alone(|| helper.spawn())?;
        let helper = helper.wait_with_output().await?;
        if helper.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&helper.stderr);
        let said = said.trim().to_owned();
        Err(io::Error::other(match said.is_empty() {
            true => format!("{SUBCOMMAND} ended with {}", helper.status),
            false => said,
        }))
    }

    pub(super) fn send_from_within(event: ConsoleEvent, pid: u32) -> io::Result<()> {
        // SAFETY: takes nothing. That there was none is as good.
        unsafe { FreeConsole() };
        // SAFETY: takes an integer.
        check(unsafe { AttachConsole(pid) })?;
        // SAFETY: no handler is passed: this only sets the flag by which we ignore our own Ctrl-C.
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
