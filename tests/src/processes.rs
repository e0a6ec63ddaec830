//! Processes as Linux shows them in `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use handoff::os::procfs::{self, ProcessStat};
use rustix::process::{Pid, Signal, kill_process};

use crate::deployment::Running;
use crate::wait::eventually;

/// Sends a signal.
pub fn signal(pid: u32, signal: Signal) {
    let process = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(process, signal).unwrap_or_else(|error| panic!("no signal to {pid}: {error}"));
}

/// Returns whether a process still does anything. A zombie does not.
pub fn is_alive(pid: u32) -> bool {
    ProcessStat::read(pid).is_some_and(|stat| !stat.has_ended())
}

/// Returns whether a process has been reaped. Only then all its threads have ended and its sockets
/// are closed: the first thread may be a zombie while others still hold them.
pub fn is_reaped(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Returns whether a process is halted, by `SIGSTOP`.
pub fn is_halted(pid: u32) -> bool {
    ProcessStat::read(pid).is_some_and(|stat| stat.state == 'T')
}

/// The living children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| ProcessStat::read(*pid).is_some_and(|stat| stat.parent == parent);
    let mut pids = living();
    pids.retain(is_child);
    pids
}

/// Returns the number of connections to a port that a halted process has accepted and not closed.
pub fn connections(pid: u32, port: u16) -> usize {
    let suffix = format!(":{port:04X}");
    let own: Vec<u64> = procfs::sockets(pid).expect("its sockets").collect();
    let mut accepted = BTreeSet::new();
    // A table that changes while it is read may lack some lines.
    for _ in 0..5 {
        let table = fs::read_to_string("/proc/net/tcp").expect("the sockets");
        accepted.extend(table.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // proc_net_tcp(5): state 0A listens.
            let is_accepted = fields.get(1)?.ends_with(&suffix) && fields.get(3) != Some(&"0A");
            let inode = fields.get(9)?.parse().ok();
            inode.filter(|inode| is_accepted && own.contains(inode))
        }));
    }
    accepted.len()
}

/// The living processes of a process group.
pub fn group(group: u32) -> Vec<u32> {
    let is_in_group = |pid: &u32| ProcessStat::read(*pid).is_some_and(|stat| stat.group == group);
    let mut pids = living();
    pids.retain(is_in_group);
    pids
}

/// The living processes whose program or working directory is in `folder`.
pub fn from(folder: &Path) -> Vec<u32> {
    let is_from = |pid: &u32| {
        ["exe", "cwd"].iter().any(|link| {
            let path = fs::read_link(format!("/proc/{pid}/{link}"));
            path.is_ok_and(|path| path.starts_with(folder))
        })
    };
    let mut pids = living();
    pids.retain(is_from);
    pids
}

/// The living processes that were started with this variable, or by one that was.
pub fn with_variable(name: &str, value: &str) -> Vec<u32> {
    let variable = format!("{name}={value}");
    let has_it = |pid: &u32| procfs::has_variable(*pid, |other| other == variable.as_bytes());
    let mut pids = living();
    pids.retain(has_it);
    pids
}

fn living() -> Vec<u32> {
    procfs::pids().filter(|&pid| is_alive(pid)).collect()
}

/// Its end.
impl Running {
    /// Waits until no process of this deployment is left.
    #[track_caller]
    pub fn await_no_processes(&self) {
        let mut folders = vec![self.root()];
        // Another sidecar's apps may work in the same deployment.
        if self.deployment().is_ours_alone() {
            folders.push(self.deployment().root());
        }
        let left = || -> Vec<u32> {
            let of = |folder: &&Path| from(folder);
            folders.iter().flat_map(of).collect()
        };
        eventually(
            || self.failure(&format!("no process is left, not {:?}", left())),
            || left().is_empty().then_some(()),
        );
    }
}
