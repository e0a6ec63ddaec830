//! Groups of processes: the job object of one server process, and the sandbox around them all.
//!
//! Linux has no jobs that an ordinary user may make. There every descendant carries two variables
//! in its environment that say where it belongs, also when its parent is gone.

#[cfg(unix)]
#[path = "linux.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

use std::io;
use std::process::{Child, Command};

/// Everything that a simulated site has started.
#[derive(Debug)]
pub(super) struct Sandbox(os::Group);

/// Everything that one server process has started.
#[derive(Debug)]
pub(super) struct Job {
    group: os::Group,
    ends_it: bool,
}

// === impl Sandbox ===

impl Sandbox {
    pub(super) fn new() -> io::Result<Self> {
        os::Group::new("PLATFORM_SANDBOX", true).map(Self)
    }

    /// Starts a member of it, and of `job`.
    pub(super) fn spawn(&self, command: &mut Command, job: &Job) -> io::Result<Child> {
        let groups = [&self.0, &job.group];
        groups.iter().for_each(|group| group.prepare(command));
        let mut child = crate::binaries::spawn(command)?;
        // On Windows the module assigns before the process runs. Here that is a moment later: what
        // is started needs longer to start something itself.
        let adopted = groups.iter().try_for_each(|group| group.adopt(&child));
        if adopted.is_err() {
            child.kill()?;
            child.wait()?;
        }
        adopted.map(|()| child)
    }

    /// The living members.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.pids()
    }

    /// Ends all of it.
    pub(super) fn kill(&self) {
        kill_group(&self.0);
    }
}

// === impl Job ===

impl Job {
    /// Makes a group. One that ends nothing shows what belongs together, and its end ends nothing.
    pub(super) fn new(ends_it: bool) -> io::Result<Self> {
        let group = os::Group::new("PLATFORM_JOB", ends_it)?;
        Ok(Self { group, ends_it })
    }

    /// The living members.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.group.pids()
    }

    /// Ends all of it, as the last handle's end does.
    pub(super) fn kill(&self) {
        if self.ends_it {
            kill_group(&self.group);
        }
    }
}

/// Ends one process as `TerminateProcess` does; one that has ended is none.
pub(super) fn terminate(pid: u32) {
    os::terminate(pid);
}

/// Sends what the module sends to a console: `false` where there is none.
pub(super) fn ask_to_stop(pid: u32) -> bool {
    os::ask_to_stop(pid)
}

/// A member may start another while it is being killed.
fn kill_group(group: &os::Group) {
    for _ in 0..100 {
        let members = group.pids();
        if members.is_empty() {
            return;
        }
        members.into_iter().for_each(terminate);
    }
}
