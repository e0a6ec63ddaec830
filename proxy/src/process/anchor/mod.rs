//! The anchor: a small process that keeps what has to survive the process that does all else.
//!
//! With `--anchor on` the first process is the anchor. It starts the *proxy process*, which is
//! handoff as it is without an anchor, and keeps for it:
//!
//! - the public port, so that clients wait in its backlog while there is no proxy process;
//! - the instances: it is their parent and keeps their output, so that they neither end nor block;
//! - a record that tells the next proxy process how to go on.
//!
//! ```text
//!            starts, forwards signals
//!  anchor ────────────────────────────▶ proxy process ──▶ clients, files, app
//!    │ ▲ ◀──────── requests ────────────────┘
//!    │ └── listener, pipes, record
//!    └── parent of the instances
//! ```
//!
//! It knows nothing about what it keeps: it reads neither options nor requests, so that its code
//! rarely changes. When the proxy process dies, it starts another one, which gets all of this back; in
//! an upgrade (`handoff upgrade`), while the process before still serves.
//! When the anchor dies, the system kills the proxy process and the roots of the instances.

#[cfg(unix)]
mod kept;
#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;
#[cfg(unix)]
mod protocol;
#[cfg(unix)]
mod proxy;
#[cfg(unix)]
mod role;
#[cfg(unix)]
mod step;
#[cfg(unix)]
mod upgrade;

use std::io;
use std::net::TcpListener;
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::os::inherit;

pub(super) use os::AnchoredChild;
pub use os::{Anchor, LeavingProcesses, Replacement, is_to_anchor};
#[cfg(windows)]
pub use os::{become_anchor, is_anchor, run};
#[cfg(unix)]
pub use role::{become_anchor, is_anchor, run};

/// The state that one proxy process leaves to the next.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Public port, once it has been bound.
    pub listener: Option<TcpListener>,
    /// Port of `--admin`, once it has been bound.
    pub admin: Option<TcpListener>,
    /// Record of the supervisor.
    pub record: Option<String>,
    /// Id of the sidecar, which stays the same.
    pub sidecar: Option<String>,
    /// End of the proxy process before, if it was not requested.
    pub crash: Option<String>,
    /// Number of proxy processes that ended so.
    pub crashes: u32,
    /// The last upgrades, the oldest first.
    pub upgrades: Vec<UpgradeRecord>,
    /// True if this process takes the place of one that runs.
    pub is_upgrade: bool,
    /// Processes that have been replaced, and serve their connections to the end.
    pub leaving: LeavingProcesses,
    pub(super) children: Vec<KeptChild>,
}

/// An upgrade.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeRecord {
    /// Number of upgrades so far.
    pub count: u32,
    /// Version before.
    pub from: String,
    /// Version since.
    pub to: String,
    /// Number of the command.
    pub serial: u64,
    /// Time at which the new process was started, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Time from then until it served, in milliseconds; none before that.
    pub took_ms: Option<u64>,
    /// Number of requests and tunnels that were in flight when the process before stood still.
    pub in_flight: usize,
}

/// A message of the anchor to the proxy process that is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplacementOrder {
    /// The next process has read its configuration. From its answer on the receiver leaves alone what
    /// both have in common.
    StandStill,
    /// The next process serves: the receiver serves its connections to their end, and ends.
    Leave,
    /// There is no next process: the receiver goes on.
    GoOn {
        /// Reason of that.
        reason: String,
    },
}

/// An instance that an earlier proxy process launched.
#[derive(Debug)]
pub(super) struct KeptChild {
    pub(super) child: AnchoredChild,
    /// Text that was given at its launch.
    pub(super) note: String,
}

/// The first process of an instance: a child of this process or of the anchor.
#[derive(Debug)]
pub(super) enum Root {
    /// A child of this process. Waiting for it closes its standard input, unless that has been taken
    /// out.
    Own(Box<Child>, Option<ChildStdin>),
    /// A child of the anchor.
    Anchored(AnchoredChild),
}

/// The standard input of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// There is none.
    Null,
    /// It is open until [`Root::close_input`].
    Open,
}

// === impl Root ===

impl Root {
    /// Starts a program as a child of this process.
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = inherit::with_spawn_lock(|| command.spawn())?;
        let stdin = child.stdin.take();
        Ok(Self::Own(Box::new(child), stdin))
    }

    /// Returns its process id, until it has been waited for.
    pub(super) fn id(&self) -> Option<u32> {
        match self {
            Self::Own(child, _) => child.id(),
            Self::Anchored(child) => child.id(),
        }
    }

    /// Takes the pipes to which it writes.
    pub(super) fn take_output(&mut self) -> io::Result<(Option<ChildStdout>, Option<ChildStderr>)> {
        match self {
            Self::Own(child, _) => Ok((child.stdout.take(), child.stderr.take())),
            Self::Anchored(child) => child.take_output(),
        }
    }

    /// Closes its standard input.
    pub(super) fn close_input(&mut self) -> io::Result<()> {
        match self {
            Self::Own(_, stdin) => {
                drop(stdin.take());
                Ok(())
            }
            Self::Anchored(child) => child.close_input(),
        }
    }

    /// Waits for its end. A child of the anchor has to have ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Own(child, _) => child.wait().await,
            Self::Anchored(child) => child.reap(),
        }
    }

    /// Kills this one process.
    pub(super) fn start_kill(&mut self) -> io::Result<()> {
        match self {
            Self::Own(child, _) => child.start_kill(),
            Self::Anchored(child) => child.kill(),
        }
    }
}
