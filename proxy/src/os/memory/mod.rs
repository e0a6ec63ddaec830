//! How much memory is left: the machine's, and what of it this process and its apps may use.

#[cfg(unix)]
mod control_group;
mod resident;

pub use resident::resident_memory;

/// Less than this share of the memory is short.
const SHARE: u64 = 10;
/// And so is less than this, in bytes.
const LEAST: u64 = 128 << 20;

/// Of a machine or a container, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    available: u64,
    total: u64,
}

/// Whether there is so little memory left, on the machine or for the container in it, that nothing
/// should run that need not.
pub fn is_short_of_memory() -> bool {
    is_any_short(&limits())
}

fn is_any_short(limits: &[Memory]) -> bool {
    limits.iter().any(|memory| memory.is_short())
}

#[cfg(unix)]
fn limits() -> Vec<Memory> {
    let mut limits = control_group::memory();
    limits.extend(machine());
    limits
}

#[cfg(windows)]
fn limits() -> Vec<Memory> {
    machine().into_iter().collect()
}

impl Memory {
    fn is_short(self) -> bool {
        self.available < (self.total / SHARE).max(LEAST)
    }
}

/// `/proc/meminfo` (proc(5)).
#[cfg(unix)]
fn machine() -> Option<Memory> {
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

/// GlobalMemoryStatusEx. What a job object may use is not asked.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the system's memory has no safe interface")]
fn machine() -> Option<Memory> {
    use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

    // SAFETY: all fields are integers, for which zero is a value.
    let mut status: MEMORYSTATUSEX = unsafe { std::mem::zeroed() };
    status.dwLength = size_of::<MEMORYSTATUSEX>() as u32;
    // SAFETY: the buffer says how long it is.
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
        let Memory { available, total } = machine().unwrap();
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
