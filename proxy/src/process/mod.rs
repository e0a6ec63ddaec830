//! Process trees of instances: how they are started, asked to stop and killed.
//!
//! [`command`] holds what Unix and Windows share. The twins `unix` and `windows` export the same
//! names: callers need no `cfg`, and the two can be compared side by side.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use self::stop::Stop;
use self::tree::ProcessTree;
use self::variables::Variables;
use crate::release::{Generation, ReleaseId};

pub mod access_token;
pub mod anchor;
pub mod announcement;
mod app_request;
#[cfg(unix)]
mod children;
pub mod command;
pub mod console;
mod orphans;
mod output;
pub mod program;
pub mod stop;
pub mod template;
pub mod tree;
pub mod variables;
pub mod words;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use output::{AppLog, LineOrigin, OutputStream};

/// A request to stop that completes when the app has received it.
pub type StopFuture = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A launcher of instances.
pub trait Launch: 'static {
    /// A process that it starts.
    type Process: Process + 'static;

    /// Starts the process that `spec` describes.
    ///
    /// # Errors
    /// [`LaunchError`] if the system refuses.
    fn launch(&self, spec: LaunchSpec) -> Result<Self::Process, LaunchError>;

    /// Takes charge of what an earlier process of this sidecar left. It is called once, before the
    /// first launch.
    fn adopt(&self, stop: &Stop) -> Adoption<Self::Process>;

    /// Keeps a record for the process that follows this one, if there may be one.
    fn keep_record(&self, record: &str);
}

/// A running process tree. Dropping it ends the tree.
pub trait Process {
    /// Returns the process id of the root.
    fn pid(&self) -> u32;

    /// Waits until the root has ended, then kills what it left behind. Cancel safe.
    fn exited(&mut self) -> impl Future<Output = Exit>;

    /// Asks the root to stop, in the way that [`LaunchSpec::stop`] names.
    ///
    /// An error means that the request has not been received (a console event without a console, an
    /// HTTP response with an error): only [`Process::kill`] is left.
    fn ask_to_stop(&mut self) -> StopFuture;

    /// Kills the whole tree now.
    fn kill(&mut self);

    /// Returns the last lines that the tree has written so far.
    fn output(&self) -> VecDeque<String>;

    /// Returns a view of its processes.
    fn tree(&self) -> ProcessTree;

    /// Returns the file in which it reads its own state, if it has one.
    fn state_file(&self) -> Option<PathBuf>;
}

/// The state that an earlier process of this sidecar left.
#[derive(Debug)]
pub struct Adoption<P> {
    /// Record that was kept last.
    pub record: Option<String>,
    /// Its instances, in the order of their launches.
    pub processes: Vec<AdoptedProcess<P>>,
}

/// An instance that an earlier process of this sidecar launched.
#[derive(Debug)]
pub struct AdoptedProcess<P> {
    /// Number of the launch.
    pub generation: Generation,
    /// Id of the release.
    pub release: ReleaseId,
    /// The process.
    pub process: P,
}

/// Everything that a launch needs.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// Number of the launch, for the log.
    pub generation: Generation,
    /// Part that it plays in that launch.
    pub role: ProcessRole,
    /// Id of the release, for the log.
    pub release: ReleaseId,
    /// Path of the program, or a name to look up in `PATH`.
    pub program: OsString,
    /// Arguments of the program.
    pub args: Vec<OsString>,
    /// Variables set for it, in addition to those that it inherits.
    pub env: Variables,
    /// Working directory.
    pub workdir: PathBuf,
    /// Way in which it is asked to stop.
    pub stop: Stop,
    /// Port on which it has to listen, for a stop by request.
    pub port: u16,
}

/// The part of a process in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessRole {
    /// It is the instance.
    Instance,
    /// It is a command beside the instance.
    Step,
}

/// The end of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit status in the words of the system: `exit status: 3`, `signal: 9 (SIGKILL)`.
    pub status: String,
    /// `true` if the app reported success: exit status 0.
    pub is_success: bool,
    /// Last lines that it wrote to stdout and stderr, in the order in which they were read.
    pub output: VecDeque<String>,
}

/// Failure to start a process.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?} in {workdir:?}: {source}")]
pub struct LaunchError {
    /// Program that was to be started.
    pub program: OsString,
    /// Working directory.
    pub workdir: PathBuf,
    /// Error of the system.
    pub source: io::Error,
    /// `true` if the release is at fault (no such program, not a program), `false` if the machine is
    /// (out of memory, out of processes, locked for now).
    pub is_releases_fault: bool,
}
