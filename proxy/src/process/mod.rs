//! The seam to the operating system: how an instance's process tree is started, asked to stop and
//! ended.
//!
//! What Unix and Windows share is in [`command`]; the twins `unix` and `windows` export the same
//! names, so that callers hold no `cfg` and a port is reviewed by reading two files side by side.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;

use self::stop::Stop;
use self::variables::Variables;
use crate::release::{Generation, ReleaseId};

pub mod access_token;
pub mod command;
pub mod console;
mod orphans;
mod output;
pub mod stop;
mod stop_request;
pub mod template;
pub mod variables;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use output::AppLog;

/// What completes when an app has been asked to stop.
pub type Asking = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// Starts instances.
pub trait Launch {
    /// What it starts.
    type Process: Process + 'static;

    /// Starts the process that `spec` describes.
    ///
    /// # Errors
    /// [`LaunchError`] when the system refuses.
    fn launch(&self, spec: LaunchSpec) -> Result<Self::Process, LaunchError>;
}

/// A running process tree. Dropping it ends the tree.
pub trait Process {
    /// The root's process id.
    fn pid(&self) -> u32;

    /// Waits until the root is gone, then ends what it left behind. Cancel safe.
    fn exited(&mut self) -> impl Future<Output = Exit>;

    /// Asks the root to stop, in the way of its [`LaunchSpec::stop`].
    ///
    /// An error says that it has not been asked (a console event where there is no console, an
    /// answer that says no): only [`Process::kill`] is left.
    fn ask_to_stop(&mut self) -> Asking;

    /// Ends the whole tree now.
    fn kill(&mut self);

    /// The last lines that it has written so far.
    fn output(&self) -> VecDeque<String>;

    /// Where processes of the tree listen, as far as the system tells.
    fn listeners(&self) -> Vec<SocketAddr>;

    /// Who listens on a port, as far as the system tells.
    fn owner(&self, port: u16) -> Owner;
}

/// Who listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The process tree that was asked about, on these addresses.
    Tree(Vec<SocketAddr>),
    /// Another process: its name and id.
    Another(String),
    /// The system does not tell.
    Unknown,
}

/// Everything that a launch needs.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// For the log: which launch.
    pub generation: Generation,
    /// For the log: of what.
    pub release: ReleaseId,
    /// A path, or a name to look up in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables set for it, beside what it inherits.
    pub env: Variables,
    /// Its working directory.
    pub workdir: PathBuf,
    /// How it is asked to stop.
    pub stop: Stop,
    /// Where it was told to listen, for a stop by request.
    pub port: u16,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// `exit status: 3`, `signal: 9 (SIGKILL)`, in the system's words.
    pub status: String,
    /// The last lines that it wrote, stdout and stderr as they came.
    pub output: VecDeque<String>,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?} in {workdir:?}: {source}")]
pub struct LaunchError {
    /// What was to be started.
    pub program: OsString,
    /// Where.
    pub workdir: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// Whether the release is to blame (no such program in it, not a program), and not the
    /// machine (out of memory, out of processes, locked for now).
    pub is_releases_fault: bool,
}
