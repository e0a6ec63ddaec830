//! How much memory the machine has left.

/// Less than this share of the machine's memory is short.
const SHARE: u64 = 10;
/// And so is less than this, in bytes.
const LEAST: u64 = 128 << 20;

/// Whether the machine has so little memory left that nothing should run that need not. What a
/// container may use is not asked.
pub fn is_short_of_memory() -> bool {
    memory().is_some_and(|(available, total)| available < (total / SHARE).max(LEAST))
}

/// What is available and what there is, in bytes: `/proc/meminfo` (proc(5)).
#[cfg(unix)]
fn memory() -> Option<(u64, u64)> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

#[cfg(unix)]
fn parse(meminfo: &str) -> Option<(u64, u64)> {
    let bytes = |key: &str| {
        let mut lines = meminfo.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    Some((bytes("MemAvailable")?, bytes("MemTotal")?))
}

/// What is available and what there is, in bytes: GlobalMemoryStatusEx.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the system's memory has no safe interface")]
fn memory() -> Option<(u64, u64)> {
    use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

    // SAFETY: all fields are integers, for which zero is a value.
    let mut status: MEMORYSTATUSEX = unsafe { std::mem::zeroed() };
    status.dwLength = size_of::<MEMORYSTATUSEX>() as u32;
    // SAFETY: the buffer says how long it is.
    let asked = unsafe { GlobalMemoryStatusEx(&raw mut status) };
    (asked != 0).then_some((status.ullAvailPhys, status.ullTotalPhys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_how_much_there_is() {
        let (available, total) = memory().unwrap();
        assert!(
            available <= total && total > LEAST,
            "{available} of {total}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_told_is_not_guessed() {
        let meminfo = "MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(parse(meminfo), Some((1 << 20, 2 << 20)));
        assert_eq!(parse("MemTotal: 2048 kB\n"), None);
    }
}
