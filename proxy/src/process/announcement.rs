//! The state of an instance, as the app itself can know it: in a file that its variable
//! `HANDOFF_STATE_FILE` names, and from a request to it (`--notify`).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;

use super::{app_request, stop};
use crate::os::files;
use crate::release::ReleaseId;

/// Environment variable with the path of the file.
pub(super) const STATE_FILE: &str = "HANDOFF_STATE_FILE";
/// Maximum time for a request.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A state of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// State of the instance.
    pub state: AnnouncedState,
    /// Release that it runs.
    pub release: ReleaseId,
}

/// A state that matters to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncedState {
    /// It starts, and is checked.
    Candidate,
    /// It receives all new requests.
    Active,
    /// Another one does, and it finishes its own.
    Superseded,
    /// It is idle, and kept for a rollback.
    Standby,
    /// It is asked to stop.
    Stopping,
}

/// The file with the state of an instance. It goes with the instance.
#[derive(Debug)]
pub(super) struct StateFile(PathBuf);

/// The request with which an app is notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyRequest {
    method: Method,
    path: PathAndQuery,
}

/// A value of `--notify` that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected http:METHOD:/PATH, such as http:POST:/handoff")]
pub struct NotifyError;

// === impl Announcement ===

impl Announcement {
    /// Writes it into the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_to(&self, file: &Path) -> io::Result<()> {
        files::write_atomically(file, format!("{}\n", self.json()).as_bytes())
    }

    /// Sends it to an app, for at most two seconds.
    ///
    /// # Errors
    /// The app does not accept it in time.
    pub async fn send(&self, address: SocketAddr, request: &NotifyRequest) -> io::Result<()> {
        let NotifyRequest { method, path } = request.clone();
        let sending = app_request::notify(address, method, path, self.json());
        let sent = tokio::time::timeout(TIMEOUT, sending).await;
        sent.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }

    fn json(&self) -> String {
        let Self { state, release } = self;
        let json = serde_json::json!({"state": state.name(), "release": release});
        json.to_string()
    }
}

// === impl AnnouncedState ===

impl AnnouncedState {
    /// Returns its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Standby => "standby",
            Self::Stopping => "stopping",
        }
    }
}

// === impl StateFile ===

impl StateFile {
    /// Takes charge of a file that has been written.
    pub(super) fn new(file: PathBuf) -> Self {
        Self(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        // The rest goes with the folder, at the end of the sidecar.
        let _ = std::fs::remove_file(&self.0);
    }
}

// === impl NotifyRequest ===

impl FromStr for NotifyRequest {
    type Err = NotifyError;

    fn from_str(text: &str) -> Result<Self, NotifyError> {
        let request = text.strip_prefix("http:").and_then(stop::parse_request);
        let (method, path) = request.ok_or(NotifyError)?;
        Ok(Self { method, path })
    }
}
