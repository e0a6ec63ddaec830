//! The reasons for which handoff cannot run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A reason for which handoff cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The public port cannot be bound.
    #[error("cannot listen on {address}: {source}{}", by.as_ref().map(|by| format!(": {by}")).unwrap_or_default())]
    Bind {
        /// `--listen`
        address: SocketAddr,
        /// Description of what keeps it from being bound, if it is known.
        by: Option<String>,
        /// The system's error.
        source: io::Error,
    },
    /// The socket that the service manager passed cannot be used.
    #[error("cannot use the socket that was passed (LISTEN_FDS): {0}")]
    Passed(io::Error),
    /// The admin port cannot be bound, now or later.
    #[error("cannot listen on {address} (--admin): {source}")]
    Admin {
        /// `--admin`
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A folder cannot be used.
    #[error(
        "cannot use the {what} folder {path:?}: {source}; make it writable for the user that runs \
         handoff, or choose another with --{what} DIR, outside of the folder in which the app runs"
    )]
    Folder {
        /// `state` or `cache`
        what: &'static str,
        /// Path of the folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The anchor cannot be reached.
    #[error("cannot reach the anchor (--anchor): {0}")]
    Anchor(io::Error),
    /// The system starts no thread.
    #[error("cannot start: {0}")]
    Thread(io::Error),
}
