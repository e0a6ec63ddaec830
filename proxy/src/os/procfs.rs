//! Processes as Linux shows them in `/proc`: proc_pid(5).

use std::fs;
use std::path::PathBuf;

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
    }
}
