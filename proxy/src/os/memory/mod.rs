//! Memory that is left: on the machine, and of the limits that apply to this process and its apps.

#[cfg(unix)]
mod control_group;
mod resident;
mod unused;

pub use resident::{resident_memory, tree_memory};
pub use unused::give_back_unused_memory;

/// Memory is short when less than one part in this many is available.
const SHARE: u64 = 10;
/// Memory is also short when less than this is available, in bytes.
const LEAST: u64 = 128 << 20;

/// Memory of a machine or a container, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    available: u64,
    total: u64,
}

/// Returns whether the machine, or a container that this process is in, has so little memory left
/// that only necessary processes should run.
pub fn is_short_of_memory() -> bool {
    is_any_short(&limits())
}

fn is_any_short(limits: &[Memory]) -> bool {
    limits.iter().any(|memory| memory.is_short())
}

#[cfg(unix)]
fn limits() -> Vec<Memory> {
    let mut limits = control_group::memory();
    limits.extend(physical_memory());
    limits
}

#[cfg(windows)]
fn limits() -> Vec<Memory> {
    physical_memory().into_iter().collect()
}

impl Memory {
    fn is_short(self) -> bool {
        self.available < (self.total / SHARE).max(LEAST)
    }
}

/// Reads `/proc/meminfo`: proc_meminfo(5).
#[cfg(unix)]
fn physical_memory() -> Option<Memory> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

#[cfg(unix)]
fn parse(meminfo: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let mut lines = meminfo.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    Some(Memory {
        available: bytes("MemAvailable")?,
        total: bytes("MemTotal")?,
    })
}

/// Calls GlobalMemoryStatusEx. Limits of job objects are not considered.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the system's memory has no safe interface")]
fn physical_memory() -> Option<Memory> {
    use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

    // SAFETY: all fields are integers, for which zero is a value.
    let mut status: MEMORYSTATUSEX = unsafe { std::mem::zeroed() };
    status.dwLength = size_of::<MEMORYSTATUSEX>() as u32;
    // SAFETY: the buffer states its length.
    let asked = unsafe { GlobalMemoryStatusEx(&raw mut status) };
    (asked != 0).then_some(Memory {
        available: status.ullAvailPhys,
        total: status.ullTotalPhys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_how_much_there_is() {
        let Memory { available, total } = physical_memory().unwrap();
        assert!(
            available <= total && total > LEAST,
            "{available} of {total}"
        );
    }

    #[test]
    fn the_tightest_limit_counts() {
        let (machine, container) = (64 << 30, 1 << 30);
        let left = |machines, containers| {
            let machine = Memory {
                available: machines,
                total: machine,
            };
            let container = Memory {
                available: containers,
                total: container,
            };
            is_any_short(&[container, machine])
        };
        assert!(!left(32 << 30, 512 << 20));
        assert!(left(1 << 30, 512 << 20), "the machine's");
        assert!(left(32 << 30, 64 << 20), "the container's");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_told_is_not_guessed() {
        let meminfo = "MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n";
        let memory = Memory {
            available: 1 << 20,
            total: 2 << 20,
        };
        assert_eq!(parse(meminfo), Some(memory));
        assert_eq!(parse("MemTotal: 2048 kB\n"), None);
    }
}
