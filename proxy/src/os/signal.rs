//! Requests of the system or of a person that this process ends.

use std::io;

/// Waits for SIGTERM or SIGINT; on Windows for Ctrl-C, Ctrl-Break, or the end of the console or the
/// system. Returns which of them it was.
pub async fn wait_for_shutdown() -> io::Result<&'static str> {
    os::wait_for_shutdown().await
}

#[cfg(unix)]
mod os {
    use std::io;

    use tokio::signal::unix::{SignalKind, signal};

    pub(super) async fn wait_for_shutdown() -> io::Result<&'static str> {
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

    // CTRL_LOGOFF_EVENT is left to the default handler, which lets services go on (documentation of
    // SetConsoleCtrlHandler). Only services and their children, such as handoff under IIS, receive it,
    // whenever any user logs off, and it does not say which user (documentation of HandlerRoutine).
    pub(super) async fn wait_for_shutdown() -> io::Result<&'static str> {
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
