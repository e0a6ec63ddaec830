//! Linux: `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{MARK, Seen};

/// A look reads a few small files for each process of the machine. Whoever slips through between
/// two is known by its [`MARK`].
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Process ids mean something within this only: the boot, and the container.
pub(super) fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

/// What tells this process from others with its number. Nothing for one that has ended.
pub(super) fn see(pid: u32) -> Option<Seen> {
    let stat = Stat::of(pid)?;
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    // The kernel says so of a file that is removed or replaced while it runs.
    let path = executable.to_string_lossy();
    let executable = path.strip_suffix(" (deleted)").unwrap_or(&path).into();
    Some(Seen {
        pid,
        started: stat.started,
        executable,
    })
}

/// The processes of the group of `root`, those that come from it or have its `mark`, and those that
/// come from whom has been `known` to.
pub(super) fn family(root: &Seen, known: &BTreeSet<Seen>, mark: &str) -> BTreeSet<Seen> {
    let all: BTreeMap<u32, Stat> = pids()
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .collect();
    let still = |seen: &&Seen| {
        all.get(&seen.pid)
            .is_some_and(|s| s.started == seen.started)
    };
    let mut family: BTreeSet<u32> = known.iter().filter(still).map(|seen| seen.pid).collect();
    // A group keeps its number as long as it has members, also when its first one has ended. It is
    // another one when another process has the number.
    let is_ours = all
        .get(&root.pid)
        .is_none_or(|stat| stat.started == root.started);
    if is_ours {
        family.insert(root.pid);
    }
    family.extend(all.keys().copied().filter(has(mark)));
    loop {
        let before = family.len();
        for (&pid, stat) in &all {
            if is_ours && stat.group == root.pid || family.contains(&stat.parent) {
                family.insert(pid);
            }
        }
        if family.len() == before {
            return family.into_iter().filter_map(see).collect();
        }
    }
}

/// The processes that have an instance's mark, or that of any of a sidecar's instances.
pub(super) fn marked(mark: &str) -> BTreeSet<Seen> {
    pids().filter(has(mark)).filter_map(see).collect()
}

fn has(mark: &str) -> impl Fn(&u32) -> bool {
    let instance = format!("{MARK}={mark}").into_bytes();
    let sidecars = format!("{MARK}={mark}/").into_bytes();
    move |pid| {
        // Another user's are not shown.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|&byte| byte == 0);
        variables.any(|variable| variable == instance || variable.starts_with(&sidecars))
    }
}

/// Ends exactly this process, if it still runs.
pub(super) fn end(seen: &Seen) -> bool {
    let pid = i32::try_from(seen.pid).ok().and_then(Pid::from_raw);
    // Its number cannot become another's meaning once it is held so.
    let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    see(seen.pid).as_ref() == Some(seen) && pidfd_send_signal(process, Signal::KILL).is_ok()
}

struct Stat {
    parent: u32,
    group: u32,
    /// Clock ticks since the boot.
    started: u64,
}

impl Stat {
    /// `/proc/PID/stat` (proc(5)): state, parent and group are the fields 3 to 5, the start is the
    /// 22nd. The second, the name, may hold blanks and brackets; nothing after its closing one does.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            group: u32::try_from(number(2)?).ok()?,
            started: number(19)?,
        })
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir(Path::new("/proc")).into_iter().flatten();
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
