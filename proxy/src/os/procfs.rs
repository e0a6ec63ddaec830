//! Processes as Linux shows them in `/proc`: proc_pid(5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{fs, io};

/// Fields of `/proc/PID/stat`: proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// One letter: `R` runs, `Z` has ended and has not been reaped.
    pub state: char,
    /// Id of the parent.
    pub parent: u32,
    /// Id of the process group.
    pub group: u32,
    /// CPU time in user mode, in clock ticks.
    pub user_ticks: u64,
    /// CPU time in kernel mode, in clock ticks.
    pub system_ticks: u64,
    /// Start time, in clock ticks since the boot.
    pub started: u64,
}

// === impl ProcessStat ===

impl ProcessStat {
    /// Reads the fields of a process; `None` if there is no such process.
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The second field, the name in parentheses, may hold blanks and parentheses itself.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // The manual counts from one, and this text begins with the third field.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            user_ticks: field(14)?.parse().ok()?,
            system_ticks: field(15)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }

    /// Returns whether the process has ended, though its parent may not have reaped it yet.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Returns the ids of all processes that this one can see.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns these processes and all that descend from them.
///
/// The kernel lists the children of each thread, so that the cost does not depend on other processes.
/// A kernel without `CONFIG_PROC_CHILDREN` lists none: there, all processes are asked for their parent.
pub fn with_descendants(roots: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    static LISTS_CHILDREN: LazyLock<bool> =
        LazyLock::new(|| Path::new("/proc/thread-self/children").exists());
    if *LISTS_CHILDREN {
        return descend(roots, children);
    }
    let mut all: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in pids() {
        if let Some(stat) = ProcessStat::read(pid) {
            all.entry(stat.parent).or_default().push(pid);
        }
    }
    descend(roots, |pid| all.remove(&pid).unwrap_or_default())
}

fn descend(
    roots: impl IntoIterator<Item = u32>,
    mut children: impl FnMut(u32) -> Vec<u32>,
) -> BTreeSet<u32> {
    let mut pending: Vec<u32> = roots.into_iter().collect();
    let mut found = BTreeSet::new();
    while let Some(pid) = pending.pop() {
        if found.insert(pid) {
            pending.extend(children(pid));
        }
    }
    found
}

/// Returns the children of a process: those of its threads.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut children = Vec::new();
    for list in lists {
        children.extend(list.split_ascii_whitespace().flat_map(str::parse::<u32>));
    }
    children
}

/// Returns the inodes of the sockets that a process has open.
///
/// # Errors
/// Those of another user's process cannot be read.
pub fn sockets(pid: u32) -> io::Result<impl Iterator<Item = u64>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    Ok(descriptors.filter_map(|descriptor| {
        let target = fs::read_link(descriptor.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?;
        inode.strip_suffix(']')?.parse().ok()
    }))
}

/// Returns the name of a process.
pub fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns the ids of the users as whom a process runs: real, effective, saved, and for files.
pub fn users(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    Some(
        users
            .split_ascii_whitespace()
            .flat_map(str::parse)
            .collect(),
    )
}

/// Returns the program file of a process; also if it has been removed or replaced since.
pub fn executable(pid: u32) -> Option<PathBuf> {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = executable.to_string_lossy();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).into())
}

/// Returns whether a variable that a process was started with, as `NAME=value`, is one that `matches`
/// accepts. Those of another user's process cannot be read.
pub fn has_variable(pid: u32, matches: impl Fn(&[u8]) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(matches)
}

/// Returns the resident memory of a process in bytes.
pub fn resident_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let memory = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = memory.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_blanks_and_parentheses() {
        for name in ["app", "a b", "(a) (b c", "a) Z 1 (b)", ")"] {
            let line =
                format!("42 ({name}) S 7 41 40 0 -1 0 1 2 3 4 150 250 0 0 20 0 3 0 900 1 2\n");
            let stat = ProcessStat {
                state: 'S',
                parent: 7,
                group: 41,
                user_ticks: 150,
                system_ticks: 250,
                started: 900,
            };
            assert_eq!(ProcessStat::parse(&line), Some(stat), "{name:?}");
        }
    }

    #[test]
    fn a_line_that_is_cut_off_is_nothing() {
        for line in [
            "",
            "42 (a",
            "42 (a)",
            "42 (a) S 7 41",
            "42 (a) S x 41 0 0 0 0",
        ] {
            assert_eq!(ProcessStat::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let stat = ProcessStat::read(pid).unwrap();
        assert!(!stat.has_ended() && stat.started > 0, "{stat:?}");
        assert!(pids().any(|other| other == pid));
        assert_eq!(executable(pid), std::env::current_exe().ok());
        assert!(resident_memory(pid).unwrap() > 1 << 20);
        assert!(has_variable(pid, |variable| variable.starts_with(b"PATH=")));
        assert!(!has_variable(pid, |variable| variable == b"NO=SUCH VARIABLE"));
        assert_eq!(ProcessStat::read(u32::MAX - 1), None);
        let user = rustix::process::getuid().as_raw();
        assert_eq!(users(pid).unwrap()[0], user);
        assert!(name(pid).is_some_and(|name| !name.contains('\n')));
    }

    #[test]
    fn those_that_descend_are_found_in_any_depth_and_once() {
        let tree = |pid| match pid {
            1 => vec![2, 3],
            3 => vec![4, 1],
            _ => Vec::new(),
        };
        assert_eq!(descend([1, 9], tree), BTreeSet::from([1, 2, 3, 4, 9]));
    }

    #[test]
    fn a_child_of_any_thread_descends_from_its_process() {
        let start = || {
            let mut command = std::process::Command::new("cat");
            command.stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        let this = with_descendants([std::process::id()]);
        assert!(this.contains(&child.id()), "{this:?}");
        assert!(!with_descendants([child.id()]).contains(&std::process::id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn an_open_socket_is_seen() {
        use std::os::fd::AsRawFd as _;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let mut sockets = sockets(std::process::id()).unwrap();
        assert!(sockets.any(|inode| link == Path::new(&format!("socket:[{inode}]"))));
    }
}
