//! Memory of processes.

use crate::os::parents::family;

/// Returns the resident memory of a process and all its descendants in bytes. Memory that they share
/// counts for each of them.
pub fn tree_memory(root: u32) -> Option<u64> {
    let own = resident_memory(root)?;
    let others = family(root).into_iter().filter(|&pid| pid != root);
    Some(own + others.filter_map(resident_memory).sum::<u64>())
}

/// Returns the resident memory of a process in bytes.
#[cfg(unix)]
pub fn resident_memory(pid: u32) -> Option<u64> {
    crate::os::procfs::resident_memory(pid)
}

/// Returns the working set of a process in bytes, by K32GetProcessMemoryInfo.
#[cfg(windows)]
#[expect(unsafe_code, reason = "a process's memory has no safe interface")]
pub fn resident_memory(pid: u32) -> Option<u64> {
    use windows_sys::Win32::Foundation::CloseHandle;
    use windows_sys::Win32::System::ProcessStatus::{
        K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS,
    };
    use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION};

    // SAFETY: takes integers; zero is no handle.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if process.is_null() {
        return None;
    }
    // SAFETY: all fields are integers, for which zero is a value.
    let mut counters: PROCESS_MEMORY_COUNTERS = unsafe { std::mem::zeroed() };
    let length = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: the handle is open, and the buffer has the given length.
    let asked = unsafe { K32GetProcessMemoryInfo(process, &raw mut counters, length) };
    // SAFETY: the handle is open, and owned by this function.
    unsafe { CloseHandle(process) };
    (asked != 0).then_some(counters.WorkingSetSize as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_while_it_lives() {
        let own = resident_memory(std::process::id()).unwrap();
        assert!((1 << 20..1 << 40).contains(&own), "{own}");
        assert_eq!(resident_memory(u32::MAX - 1), None);
    }
}
