//! When this process is asked to end.

use std::io;

/// Completes when the system or a person asks for it: SIGTERM or SIGINT; on Windows Ctrl-C,
/// Ctrl-Break, or the end of the console or the system.
///
/// # Errors
/// When the system does not let itself be listened to.
pub async fn shutdown() -> io::Result<&'static str> {
    os::shutdown().await
}

#[cfg(unix)]
mod os {
    use std::io;

    use tokio::signal::unix::{SignalKind, signal};

    pub(super) async fn shutdown() -> io::Result<&'static str> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        })
    }
}

#[cfg(windows)]
mod os {
    use std::io;

    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

    // Not CTRL_LOGOFF_EVENT: services only, and what they start, as IIS does handoff, get it, whenever
    // any user logs off, and are not told who (Microsoft's documentation of HandlerRoutine). It goes to
    // the default handler, which lets them go on (that of SetConsoleCtrlHandler).
    pub(super) async fn shutdown() -> io::Result<&'static str> {
        let mut c = ctrl_c()?;
        let mut pause = ctrl_break()?;
        let mut close = ctrl_close()?;
        let mut shutdown = ctrl_shutdown()?;
        Ok(tokio::select! {
            _ = c.recv() => "Ctrl-C",
            _ = pause.recv() => "Ctrl-Break",
            _ = close.recv() => "the console's end",
            _ = shutdown.recv() => "the system's end",
        })
    }
}
