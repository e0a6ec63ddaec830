//! Requests from the system or from a person: to end, to reload, to open log files again.

use std::io;

use tokio::process::Command;
use tokio::sync::mpsc::UnboundedReceiver;

/// A request that does not end the process. Windows has no signals for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalRequest {
    /// SIGHUP: read the configuration, and look for a new artifact.
    Reload,
    /// SIGUSR1: open the log files again.
    ReopenLogs,
    /// SIGUSR2: let the program in the file of this one go on.
    Upgrade,
}

/// Takes back what the parent process has done to signals in this thread and those that it starts.
///
/// A signal that a parent blocks would not end this process, and would stay blocked in the programs
/// that it starts (execve(2)). With SIGCHLD ignored, their exit statuses would be lost (wait(2)).
///
/// In the background of a terminal, SIGTTIN and SIGTTOU would stop this process when it uses the
/// terminal, so they stay blocked.
pub fn reset() {
    os::reset();
}

/// Unblocks all signals in the program of a command.
pub fn unblock_in(command: &mut Command) {
    os::unblock_in(command);
}

/// Registers for requests to end; the future completes with the name of the first one. The receiver
/// gets all others.
///
/// They are SIGTERM, SIGINT and SIGQUIT; on Windows Ctrl-C, Ctrl-Break, and the end of the console or
/// of the system. On Unix no other signal that can be caught ends the process from now on. Handlers,
/// unlike ignored signals, are not inherited by the programs that are started (execve(2)).
///
/// # Errors
/// The system refuses a handler.
pub fn listen() -> io::Result<(
    impl Future<Output = &'static str>,
    UnboundedReceiver<SignalRequest>,
)> {
    os::listen()
}

#[cfg(unix)]
mod os {
    use std::io;

    use tokio::process::Command;
    use tokio::signal::unix::{SignalKind, signal};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::SignalRequest;

    #[expect(unsafe_code, reason = "signal dispositions have no safe interface")]
    pub(super) fn reset() {
        // Setting a mask of existing signals cannot fail.
        let _ = block_only(&[libc::SIGTTIN, libc::SIGTTOU]);
        // SAFETY: the default action of SIGCHLD, to do nothing, is no handler that could run.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }

    #[expect(unsafe_code, reason = "pre_exec has no safe interface")]
    pub(super) fn unblock_in(command: &mut Command) {
        // SAFETY: between fork and exec the closure makes one system call, allocates nothing and takes
        // no lock.
        unsafe { command.pre_exec(|| block_only(&[])) };
    }

    /// Sets the mask of this thread, and of those that it starts.
    #[expect(unsafe_code, reason = "signal masks have no safe interface")]
    fn block_only(signals: &[i32]) -> io::Result<()> {
        // SAFETY: the set is initialised before it is used.
        let error = unsafe {
            let mut blocked = std::mem::zeroed();
            libc::sigemptyset(&raw mut blocked);
            for signal in signals {
                libc::sigaddset(&raw mut blocked, *signal);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const blocked, std::ptr::null_mut())
        };
        if error == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(error))
        }
    }

    const REQUESTS: [(i32, SignalRequest); 3] = [
        (libc::SIGHUP, SignalRequest::Reload),
        (libc::SIGUSR1, SignalRequest::ReopenLogs),
        (libc::SIGUSR2, SignalRequest::Upgrade),
    ];

    /// Signals whose default action ends the process, although they are no request to end.
    const NO_REQUESTS: [(&str, i32); 7] = [
        ("SIGALRM", libc::SIGALRM),
        ("SIGVTALRM", libc::SIGVTALRM),
        ("SIGPROF", libc::SIGPROF),
        ("SIGIO", libc::SIGIO),
        ("SIGPWR", libc::SIGPWR),
        ("SIGSTKFLT", libc::SIGSTKFLT),
        ("SIGXCPU", libc::SIGXCPU),
    ];

    pub(super) fn listen() -> io::Result<(
        impl Future<Output = &'static str>,
        UnboundedReceiver<SignalRequest>,
    )> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let (sender, requests) = unbounded_channel();
        for (number, request) in REQUESTS {
            let mut received = signal(SignalKind::from_raw(number))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while received.recv().await.is_some() {
                    // The receiver ends only with the process.
                    let _ = sender.send(request);
                }
            });
        }
        let named = NO_REQUESTS.map(|(name, number)| (name.to_owned(), number));
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let real_time = real_time.map(|number| (format!("signal {number}"), number));
        for (name, number) in named.into_iter().chain(real_time) {
            // A program that watches this one may keep the last for itself, as valgrind does.
            let Ok(mut received) = signal(SignalKind::from_raw(number)) else {
                continue;
            };
            tokio::spawn(async move {
                while received.recv().await.is_some() {
                    tracing::info!(
                        event = "signal_ignored",
                        signal = name,
                        "a signal that asks for nothing was ignored: SIGHUP reloads, SIGUSR1 opens \
                         log files again, SIGUSR2 upgrades handoff, SIGTERM ends it"
                    );
                }
            });
        }
        // The write that causes it fails with EFBIG, which is handled there: a line about the signal
        // could be the next such write. The handler stays without a receiver.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = quit.recv() => "SIGQUIT",
            }
        };
        Ok((end, requests))
    }
}

#[cfg(windows)]
mod os {
    use std::io;

    use tokio::process::Command;
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::SignalRequest;

    /// Does nothing: there are no signals.
    pub(super) fn reset() {}

    /// Does nothing: there are no signals.
    pub(super) fn unblock_in(_: &mut Command) {}

    // CTRL_LOGOFF_EVENT is left to the default handler, which lets services go on (documentation of
    // SetConsoleCtrlHandler). Only services and their children, such as handoff under IIS, receive it,
    // whenever any user logs off, and it does not say which user (documentation of HandlerRoutine).
    pub(super) fn listen() -> io::Result<(
        impl Future<Output = &'static str>,
        UnboundedReceiver<SignalRequest>,
    )> {
        let mut c = ctrl_c()?;
        let mut pause = ctrl_break()?;
        let mut close = ctrl_close()?;
        let mut shutdown = ctrl_shutdown()?;
        let end = async move {
            tokio::select! {
                _ = c.recv() => "Ctrl-C",
                _ = pause.recv() => "Ctrl-Break",
                _ = close.recv() => "the console's end",
                _ = shutdown.recv() => "the system's end",
            }
        };
        Ok((end, unbounded_channel().1))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #[expect(unsafe_code, reason = "signal masks have no safe interface")]
    fn block_all() {
        // SAFETY: the set is initialised before it is used; it is the mask of this thread alone.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        }
    }

    #[test]
    fn a_parent_keeps_no_signal_from_the_programs_that_are_started() {
        std::thread::spawn(|| {
            block_all();
            super::reset();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let blocked = status.lines().find(|line| line.starts_with("SigBlk:"));
            // SIGTTIN and SIGTTOU.
            assert_eq!(blocked, Some("SigBlk:\t0000000000300000"));
        })
        .join()
        .unwrap();
    }
}
