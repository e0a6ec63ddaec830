//! Being told to end early: the children have to be ended first.

use std::future::pending;
use std::io;

/// Ends on Ctrl-C or, on Unix, SIGTERM.
pub async fn interrupted() {
    if let Err(error) = signalled().await {
        eprintln!("loadtest: failed to listen for Ctrl-C, so it will end nothing cleanly: {error}");
        pending::<()>().await;
    }
}

#[cfg(unix)]
async fn signalled() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(windows)]
async fn signalled() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
