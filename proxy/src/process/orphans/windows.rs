//! Windows: a snapshot of all processes, and what each says of itself.

#![expect(
    unsafe_code,
    reason = "looking at other processes has no safe interface"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::PathBuf;
use std::time::Duration;

use windows_sys::Win32::Foundation::{FILETIME, INVALID_HANDLE_VALUE, STILL_ACTIVE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, OpenProcess, PROCESS_NAME_WIN32,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE, QueryFullProcessImageNameW,
    TerminateProcess,
};

use super::Seen;

/// Only where there is no job: a parent that has ended between two looks hides its children.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The longest path that Windows has, in UTF-16 units.
const MAX_PATH: usize = 32 * 1024;
const KILLED: u32 = 1;

/// The start time of a process is that of the clock: no two have the same, whatever the boot.
pub(super) fn machine() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// What tells this process from others with its number. Nothing for one that has ended.
pub(super) fn see(pid: u32) -> Option<Seen> {
    look_at(&open(pid, PROCESS_QUERY_LIMITED_INFORMATION)?, pid)
}

/// Those that come from `root`, and from whom has been `known` to: a child says its parent's number
/// also when that has ended.
pub(super) fn family(root: &Seen, known: &BTreeSet<Seen>, _: &str) -> BTreeSet<Seen> {
    let parents = parents().unwrap_or_default();
    // Who has ended stays for its children, unless its number is another's by now.
    let mut family: BTreeMap<u32, Seen> = known
        .iter()
        .chain([root])
        .filter(|seen| see(seen.pid).is_none_or(|now| now == **seen))
        .map(|seen| (seen.pid, seen.clone()))
        .collect();
    loop {
        let before = family.len();
        for (&pid, parent) in &parents {
            let Some(parent) = family.get(parent).filter(|_| !family.contains_key(&pid)) else {
                continue;
            };
            // An older one is the child of another process that had the number before.
            let child = see(pid).filter(|child| child.started >= parent.started);
            family.extend(child.map(|child| (pid, child)));
        }
        if family.len() == before {
            break;
        }
    }
    let has_children = |pid: &u32| parents.values().any(|parent| parent == pid);
    family.retain(|pid, seen| has_children(pid) || see(*pid).as_ref() == Some(seen));
    family.into_values().collect()
}

/// None: the variables of another process are not to be had.
pub(super) fn marked(_: &str) -> BTreeSet<Seen> {
    BTreeSet::new()
}

/// Ends exactly this process, if it still runs.
pub(super) fn end(seen: &Seen) -> bool {
    let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_TERMINATE;
    let Some(process) = open(seen.pid, access) else {
        return false;
    };
    if look_at(&process, seen.pid).as_ref() != Some(seen) {
        return false;
    }
    // SAFETY: the handle is open.
    unsafe { TerminateProcess(process.as_raw_handle(), KILLED) != 0 }
}

fn open(pid: u32, access: u32) -> Option<OwnedHandle> {
    // SAFETY: takes integers.
    let process = unsafe { OpenProcess(access, 0, pid) };
    // SAFETY: the handle was just made and has no other owner.
    (!process.is_null()).then(|| unsafe { OwnedHandle::from_raw_handle(process) })
}

fn look_at(process: &OwnedHandle, pid: u32) -> Option<Seen> {
    let zero = FILETIME {
        dwLowDateTime: 0,
        dwHighDateTime: 0,
    };
    let (mut created, mut ended, mut kernel, mut user) = (zero, zero, zero, zero);
    let mut code = 0;
    // SAFETY: the handle is open, and the pointers are to values that live on.
    let told = unsafe {
        GetExitCodeProcess(process.as_raw_handle(), &raw mut code) != 0
            && GetProcessTimes(
                process.as_raw_handle(),
                &raw mut created,
                &raw mut ended,
                &raw mut kernel,
                &raw mut user,
            ) != 0
    };
    if !told || code != STILL_ACTIVE.cast_unsigned() {
        return None;
    }
    let mut path = vec![0; MAX_PATH];
    let mut length = MAX_PATH as u32;
    // SAFETY: the handle is open, and the buffer is as long as is said.
    let named = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    };
    let name = path.get(..length as usize).filter(|_| named != 0)?;
    Some(Seen {
        pid,
        started: u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime),
        executable: PathBuf::from(OsString::from_wide(name)),
    })
}

/// Who says to come from whom.
fn parents() -> io::Result<BTreeMap<u32, u32>> {
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
    // SAFETY: the snapshot is open, and the entry says how long it is.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        parents.insert(entry.th32ProcessID, entry.th32ParentProcessID);
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(parents)
}
