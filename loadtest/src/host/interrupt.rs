//! Interruption by a person: the children have to be ended first.

use std::future::pending;
use std::io;

/// Waits for Ctrl-C or, on Unix, SIGTERM.
pub async fn wait_for_interrupt() {
    if let Err(error) = wait_for_signal().await {
        eprintln!("loadtest: failed to listen for Ctrl-C, so it will end nothing cleanly: {error}");
        pending::<()>().await;
    }
}

#[cfg(unix)]
async fn wait_for_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(windows)]
async fn wait_for_signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
