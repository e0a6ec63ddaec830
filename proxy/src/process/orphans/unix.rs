//! Linux: `/proc`.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::identity::{MARK, ProcessIdentity};
use crate::os::procfs::{self, ProcessStat};

/// Time between two polls, each of which reads a few small files for each process of the tree.
/// Processes that are missed between two are found by their [`MARK`] in the end.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the identity of a running process.
pub(super) fn identify(pid: u32) -> Option<ProcessIdentity> {
    let stat = ProcessStat::read(pid).filter(|stat| !stat.has_ended())?;
    Some(ProcessIdentity {
        pid,
        started: stat.started,
        executable: procfs::executable(pid)?,
    })
}

/// Returns the processes that descend from `root` and from those in `known`, as far as these run.
pub(super) fn find_family(
    root: &ProcessIdentity,
    known: &BTreeSet<ProcessIdentity>,
) -> BTreeSet<ProcessIdentity> {
    let still_runs = |process: &&ProcessIdentity| {
        let stat = ProcessStat::read(process.pid);
        stat.is_some_and(|stat| stat.started == process.started)
    };
    let running = known.iter().chain([root]).filter(still_runs);
    let family = procfs::with_descendants(running.map(|process| process.pid));
    family.into_iter().filter_map(identify).collect()
}

/// Returns the processes that have the mark of an instance, or of any instance of a sidecar.
pub(super) fn find_marked(mark: &str) -> BTreeSet<ProcessIdentity> {
    let marked = procfs::pids().filter(has_mark(mark));
    marked.filter_map(identify).collect()
}

fn has_mark(mark: &str) -> impl Fn(&u32) -> bool {
    let instance = format!("{MARK}={mark}").into_bytes();
    let sidecar = format!("{MARK}={mark}/").into_bytes();
    move |&pid| {
        procfs::has_variable(pid, |variable| {
            variable == instance || variable.starts_with(&sidecar)
        })
    }
}

/// Kills exactly this process, if it still runs.
pub(super) fn kill(process: &ProcessIdentity) -> bool {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    // While the descriptor is open, the id cannot become that of another process.
    let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    identify(process.pid).as_ref() == Some(process)
        && pidfd_send_signal(handle, Signal::KILL).is_ok()
}
