//! The parents of processes.

#[cfg(windows)]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
#[cfg(windows)]
use std::io;

/// Returns a process with those that descend from it.
#[cfg(unix)]
pub(crate) fn family(root: u32) -> BTreeSet<u32> {
    super::procfs::with_descendants([root])
}

/// Returns a process with those that descend from it.
#[cfg(windows)]
pub(crate) fn family(root: u32) -> BTreeSet<u32> {
    let all = parents().unwrap_or_default();
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        for (pid, parent) in &all {
            if family.contains(parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// Returns the parent of each process, as the process names it.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the list of processes has no safe interface")]
pub(crate) fn parents() -> io::Result<BTreeMap<u32, u32>> {
    use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
    use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW,
        TH32CS_SNAPPROCESS,
    };

    // SAFETY: takes two integers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just made and has no other owner.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    // SAFETY: all fields are integers, for which zero is a value.
    let mut entry: PROCESSENTRY32W = unsafe { std::mem::zeroed() };
    entry.dwSize = size_of::<PROCESSENTRY32W>() as u32;
    let mut parents = BTreeMap::new();
    // SAFETY: the snapshot is open, and the entry states its length.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        parents.insert(entry.th32ProcessID, entry.th32ParentProcessID);
        // SAFETY: the snapshot is open, and the entry states its length.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(parents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_belongs_to_the_family() {
        let mut command = std::process::Command::new(if cfg!(windows) { "cmd" } else { "cat" });
        let command = command.stdin(std::process::Stdio::piped());
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let family = family(std::process::id());
        assert!(family.contains(&child.id()), "{family:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
