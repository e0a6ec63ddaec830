//! Linux: `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::identity::{MARK, ProcessIdentity};
use crate::os::procfs::{self, ProcessStat};

/// Time between two polls, each of which reads a few small files for each process of the machine.
/// Processes that are missed between two are found by their [`MARK`].
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

/// Returns the processes in the group of `root`, those that descend from it or have its `mark`, and
/// those that descend from the processes in `known`.
pub(super) fn find_family(
    root: &ProcessIdentity,
    known: &BTreeSet<ProcessIdentity>,
    mark: &str,
) -> BTreeSet<ProcessIdentity> {
    let running = procfs::pids().filter_map(|pid| {
        let stat = ProcessStat::read(pid).filter(|stat| !stat.has_ended())?;
        Some((pid, stat))
    });
    let all: BTreeMap<u32, ProcessStat> = running.collect();
    let still_runs = |process: &&ProcessIdentity| {
        all.get(&process.pid)
            .is_some_and(|stat| stat.started == process.started)
    };
    let known = known.iter().filter(still_runs);
    let mut family: BTreeSet<u32> = known.map(|process| process.pid).collect();
    // A group keeps its number while it has members, also after the end of its first one. It is
    // another group if another process has the number.
    let is_ours = all
        .get(&root.pid)
        .is_none_or(|stat| stat.started == root.started);
    if is_ours {
        family.insert(root.pid);
    }
    family.extend(all.keys().copied().filter(has_mark(mark)));
    loop {
        let before = family.len();
        for (&pid, stat) in &all {
            if is_ours && stat.group == root.pid || family.contains(&stat.parent) {
                family.insert(pid);
            }
        }
        if family.len() == before {
            return family.into_iter().filter_map(identify).collect();
        }
    }
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
