//! Job objects as they are.

#![expect(unsafe_code, reason = "job objects have no safe interface")]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::process::{Child, Command};
use std::ptr;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_PROCESS_ID_LIST, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicProcessIdList, JobObjectExtendedLimitInformation, QueryInformationJobObject,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_TERMINATE, TerminateProcess};

/// More members than a test ever has; the list holds one with its head.
const MEMBERS: usize = 256;

/// A job.
#[derive(Debug)]
pub(super) struct Group(OwnedHandle);

#[repr(C)]
struct Members {
    list: JOBOBJECT_BASIC_PROCESS_ID_LIST,
    more: [usize; MEMBERS],
}

// === impl Group ===

impl Group {
    pub(super) fn new(_name: &'static str, ends_it: bool) -> io::Result<Self> {
        // SAFETY: without attributes and a name the job is new and its handle not inheritable.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just made, and nobody else has it.
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        if !ends_it {
            return Ok(Self(job));
        }
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: the job is open, and the limits are of the class and size that are said.
        let set = unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                ptr::from_ref(&limits).cast(),
                size_of_val(&limits) as u32,
            )
        };
        succeeded(set).map(|()| Self(job))
    }

    pub(super) fn prepare(&self, _command: &mut Command) {}

    pub(super) fn adopt(&self, child: &Child) -> io::Result<()> {
        // SAFETY: both handles are open.
        succeeded(unsafe {
            AssignProcessToJobObject(self.0.as_raw_handle(), child.as_raw_handle())
        })
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let mut members = Members {
            list: JOBOBJECT_BASIC_PROCESS_ID_LIST::default(),
            more: [0; MEMBERS],
        };
        // SAFETY: the job is open, and the list is as long as is said.
        let listed = unsafe {
            QueryInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectBasicProcessIdList,
                ptr::from_mut(&mut members).cast(),
                size_of::<Members>() as u32,
                ptr::null_mut(),
            )
        };
        if listed == 0 {
            return Vec::new();
        }
        let count = members.list.NumberOfProcessIdsInList as usize;
        let pids = members.list.ProcessIdList.into_iter().chain(members.more);
        pids.take(count).map(|pid| pid as u32).collect()
    }
}

pub(super) fn terminate(pid: u32) {
    // SAFETY: no memory is passed.
    let process = unsafe { OpenProcess(PROCESS_TERMINATE, 0, pid) };
    if process.is_null() {
        return;
    }
    // SAFETY: the handle was just made, and nobody else has it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    // SAFETY: the handle is open.
    unsafe { TerminateProcess(process.as_raw_handle(), 1) };
}

/// A test has no console to share with what it starts: as in Azure's sandbox.
pub(super) fn ask_to_stop(_pid: u32) -> bool {
    false
}

fn succeeded(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
