//! Windows: a snapshot of all processes, and a query of each.

#![expect(
    unsafe_code,
    reason = "looking at other processes has no safe interface"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::PathBuf;
use std::time::Duration;

use windows_sys::Win32::Foundation::{FILETIME, STILL_ACTIVE};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, OpenProcess, PROCESS_NAME_WIN32,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE, QueryFullProcessImageNameW,
    TerminateProcess,
};

use super::identity::ProcessIdentity;
use crate::os::parents::parents;

/// Time between two polls, which run only where a job was refused. A parent that ends between two
/// hides its children.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum length of a path, in UTF-16 units.
const MAX_PATH: usize = 32 * 1024;
const KILLED: u32 = 1;

/// Returns the identity of a running process.
pub(super) fn identify(pid: u32) -> Option<ProcessIdentity> {
    query(&open(pid, PROCESS_QUERY_LIMITED_INFORMATION)?, pid)
}

/// Returns the processes that descend from `root` and from those in `known`. A process names its
/// parent also after the parent's end.
pub(super) fn find_family(
    root: &ProcessIdentity,
    known: &BTreeSet<ProcessIdentity>,
) -> BTreeSet<ProcessIdentity> {
    let parents = parents().unwrap_or_default();
    // One that has ended is kept for its children, unless another process has its id by now.
    let mut family: BTreeMap<u32, ProcessIdentity> = known
        .iter()
        .chain([root])
        .filter(|process| identify(process.pid).is_none_or(|now| now == **process))
        .map(|process| (process.pid, process.clone()))
        .collect();
    loop {
        let before = family.len();
        for (&pid, parent) in &parents {
            let Some(parent) = family.get(parent).filter(|_| !family.contains_key(&pid)) else {
                continue;
            };
            // An older one is the child of another process that had the id before.
            let child = identify(pid).filter(|child| child.started >= parent.started);
            family.extend(child.map(|child| (pid, child)));
        }
        if family.len() == before {
            break;
        }
    }
    let has_children = |pid: &u32| parents.values().any(|parent| parent == pid);
    family.retain(|pid, process| has_children(pid) || identify(*pid).as_ref() == Some(process));
    family.into_values().collect()
}

/// Returns nothing: Windows does not show the variables of another process.
pub(super) fn find_marked(_: &str) -> BTreeSet<ProcessIdentity> {
    BTreeSet::new()
}

/// Kills exactly this process, if it still runs.
pub(super) fn kill(process: &ProcessIdentity) -> bool {
    let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_TERMINATE;
    let Some(handle) = open(process.pid, access) else {
        return false;
    };
    if query(&handle, process.pid).as_ref() != Some(process) {
        return false;
    }
    // SAFETY: the handle is open.
    unsafe { TerminateProcess(handle.as_raw_handle(), KILLED) != 0 }
}

fn open(pid: u32, access: u32) -> Option<OwnedHandle> {
    // SAFETY: takes integers.
    let process = unsafe { OpenProcess(access, 0, pid) };
    // SAFETY: the handle was just made and has no other owner.
    (!process.is_null()).then(|| unsafe { OwnedHandle::from_raw_handle(process) })
}

fn query(process: &OwnedHandle, pid: u32) -> Option<ProcessIdentity> {
    let zero = FILETIME {
        dwLowDateTime: 0,
        dwHighDateTime: 0,
    };
    let (mut created, mut ended, mut kernel, mut user) = (zero, zero, zero, zero);
    let mut code = 0;
    // SAFETY: the handle is open, and the pointers are to values that outlive the calls.
    let is_known = unsafe {
        GetExitCodeProcess(process.as_raw_handle(), &raw mut code) != 0
            && GetProcessTimes(
                process.as_raw_handle(),
                &raw mut created,
                &raw mut ended,
                &raw mut kernel,
                &raw mut user,
            ) != 0
    };
    if !is_known || code != STILL_ACTIVE.cast_unsigned() {
        return None;
    }
    let mut path = vec![0; MAX_PATH];
    let mut length = MAX_PATH as u32;
    // SAFETY: the handle is open, and the buffer has the given length.
    let named = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    };
    let name = path.get(..length as usize).filter(|_| named != 0)?;
    Some(ProcessIdentity {
        pid,
        started: u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime),
        executable: PathBuf::from(OsString::from_wide(name)),
    })
}
