//! Windows: a job object for the tree, whose kill-on-close ends it if this process is killed.

#![expect(unsafe_code, reason = "job objects have no safe interface")]

use std::collections::BTreeSet;
use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;

use tokio::process::{Child, Command};
use windows_sys::Win32::Foundation::{
    ERROR_BAD_EXE_FORMAT, ERROR_ELEVATION_REQUIRED, ERROR_EXE_MACHINE_TYPE_MISMATCH,
    ERROR_FILE_NOT_FOUND, ERROR_MORE_DATA, ERROR_PATH_NOT_FOUND, HANDLE, INVALID_HANDLE_VALUE,
    NTSTATUS, RtlNtStatusToDosError,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_PROCESS_ID_LIST, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicProcessIdList, JobObjectExtendedLimitInformation, QueryInformationJobObject,
    SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED, OpenThread, ResumeThread,
    THREAD_SUSPEND_RESUME,
};

use super::StopFuture;
use super::anchor::Root;
use super::console::{self, ConsoleEvent};
use super::stop::Stop;

/// Exit code of processes that were killed.
const KILLED: u32 = 1;
/// Maximum number of processes of a tree that are searched for its listener.
const MAX_PIDS: usize = 256;

/// The job of one instance; only its root where a job was refused, as in Azure's sandbox.
#[derive(Debug)]
pub(super) struct Tree {
    root: u32,
    job: Option<OwnedHandle>,
}

/// Prepares a child that starts suspended: it is put into the job before it can start others.
///
/// It gets a console group of its own, to which Ctrl-Break can be sent; or, for Ctrl-C, which a new
/// group ignores and which reaches whole consoles only, a console of its own, without a window. It
/// gets a console too if this process has none to share, as in a service.
pub(super) fn prepare(command: &mut Command, stop: &Stop) {
    let console = if *stop == Stop::CtrlC {
        console::enable_ctrl_c();
        CREATE_NO_WINDOW
    } else if console::has_console() {
        CREATE_NEW_PROCESS_GROUP
    } else {
        CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW
    };
    command.creation_flags(console | CREATE_SUSPENDED);
}

/// Returns whether a start failed because of the program that was to be started: it does not exist,
/// is no program, is for another processor, or needs an administrator.
pub(super) fn is_releases_fault(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    // The standard library searches `PATH`, and gives no code if it finds nothing.
    let is_nowhere = code.is_none() && error.kind() == io::ErrorKind::NotFound;
    is_nowhere
        || matches!(
            code,
            Some(
                ERROR_FILE_NOT_FOUND
                    | ERROR_PATH_NOT_FOUND
                    | ERROR_BAD_EXE_FORMAT
                    | ERROR_EXE_MACHINE_TYPE_MISMATCH
                    | ERROR_ELEVATION_REQUIRED
            )
        )
}

/// Adds to an error of the system what it leaves out.
pub(super) fn explain_error(error: io::Error, workdir: &Path) -> io::Error {
    // MAX_PATH, less a backslash and the final zero, with any prefix.
    const LONGEST: usize = 258;
    let length = workdir.as_os_str().len();
    if length <= LONGEST {
        return error;
    }
    let message = format!(
        "{error} Windows starts no program in a folder whose path is longer than {LONGEST} \
         characters (it has {length}): choose a shorter one with --workdir"
    );
    io::Error::new(error.kind(), message)
}

// === impl Tree ===

impl Tree {
    /// Puts a suspended child into a job of its own, and lets it run.
    pub(super) fn adopt(root: &Root) -> io::Result<Self> {
        let Root::Own(child, _) = root else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let root = child.id().ok_or(io::ErrorKind::NotFound)?;
        let job = job_of(child).inspect_err(|error| {
            tracing::warn!(
                event = "job_object_refused",
                %error,
                "no job object for the app: processes that it starts may outlive it"
            );
        });
        resume(child, root)?;
        Ok(Self {
            root,
            job: job.ok(),
        })
    }

    /// Waits for the root, then kills what it left behind.
    pub(super) async fn wait(&self, root: &mut Root) -> io::Result<ExitStatus> {
        let status = root.wait().await;
        self.kill();
        status
    }

    /// Does nothing: what the root leaves behind is killed with the job, and a console event has
    /// reached all of its processes already.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "the same as on Unix"
    )]
    pub(super) fn begin_stop(&mut self, _: &Stop) {}

    /// Sends the console event that stands for this way to stop.
    pub(super) fn signal(&self, stop: &Stop) -> StopFuture {
        let event = if *stop == Stop::CtrlC {
            ConsoleEvent::CtrlC
        } else {
            ConsoleEvent::CtrlBreak
        };
        Box::pin(console::send(event, self.root))
    }

    /// Kills the processes of the job.
    pub(super) fn kill(&self) {
        if let Some(job) = &self.job {
            // SAFETY: the handle is open.
            unsafe { TerminateJobObject(job.as_raw_handle(), KILLED) };
        }
    }

    /// Returns whether all of the tree ends if this process is killed.
    pub(super) fn is_killed_with_sidecar(&self) -> bool {
        self.job.is_some()
    }

    /// Returns the processes of the job.
    pub(super) fn pids(&self) -> Vec<u32> {
        let Some(job) = &self.job else {
            return vec![self.root];
        };
        #[repr(C)]
        struct List {
            head: JOBOBJECT_BASIC_PROCESS_ID_LIST,
            more: [usize; MAX_PIDS],
        }
        // SAFETY: all fields are integers, for which zero is a value.
        let mut list: List = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is open, the buffer has the given length, and `more` follows its head.
        let queried = check(unsafe {
            QueryInformationJobObject(
                job.as_raw_handle(),
                JobObjectBasicProcessIdList,
                ptr::from_mut(&mut list).cast(),
                size_of::<List>() as u32,
                ptr::null_mut(),
            )
        });
        let truncated = |e: &io::Error| e.raw_os_error() == Some(ERROR_MORE_DATA.cast_signed());
        if queried.is_err_and(|error| !truncated(&error)) {
            return vec![self.root];
        }
        let count = list.head.NumberOfProcessIdsInList as usize;
        let ids = list.head.ProcessIdList.into_iter().chain(list.more);
        ids.take(count).map(|id| id as u32).collect()
    }
}

/// Returns the processes of the tree that [`Tree::pids`] has returned.
pub(super) fn members(pids: Vec<u32>) -> BTreeSet<u32> {
    pids.into_iter().collect()
}

/// Returns `false`: a job loses no process.
pub(super) fn is_adopted(_: u32, _: u32, _: &str) -> bool {
    false
}

/// Creates a job that is killed when its handle is closed, and puts the child into it.
fn job_of(child: &Child) -> io::Result<OwnedHandle> {
    // IIS's module skips its job where CreateJobObject yields NULL or this value (platform stub of
    // Azure App Service, AspNetCoreModule serverprocess.cxx).
    const AZURE_STUB: usize = 0xdead_beef;
    // For tests, as Wine refuses no job. Released programs do not read the variable.
    if cfg!(debug_assertions) && std::env::var_os("HANDOFF_TEST_REFUSES_JOBS").is_some() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: null is the default for both arguments.
    let handle = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    if handle.addr() == AZURE_STUB {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: the handle was just made and has no other owner.
    let job = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: all fields are integers, for which zero is a value.
    let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { std::mem::zeroed() };
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    // SAFETY: the handle is open, and the buffer has the given length.
    check(unsafe {
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            ptr::from_ref(&limits).cast(),
            size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
        )
    })?;
    let process = child.raw_handle().ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: both handles are open.
    check(unsafe { AssignProcessToJobObject(job.as_raw_handle(), process) })?;
    Ok(job)
}

/// Lets a process run that was created suspended. (The standard library does not give out the handle
/// of its thread, which CreateProcess returned.)
fn resume(child: &Child, pid: u32) -> io::Result<()> {
    let process = child.raw_handle().ok_or(io::ErrorKind::NotFound)?;
    // The first way is undocumented, so there is a second one.
    resume_process(process).or_else(|_| resume_thread_of(pid))
}

fn resume_process(process: HANDLE) -> io::Result<()> {
    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn NtResumeProcess(process: HANDLE) -> NTSTATUS;
    }
    // SAFETY: the handle is open and, as that of a child, has all rights.
    match unsafe { NtResumeProcess(process) } {
        0.. => Ok(()),
        // SAFETY: takes an integer.
        status => Err(io::Error::from_raw_os_error(
            unsafe { RtlNtStatusToDosError(status) }.cast_signed(),
        )),
    }
}

/// Resumes the only thread of a process, which is found in a snapshot of all threads.
fn resume_thread_of(pid: u32) -> io::Result<()> {
    // SAFETY: takes two integers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just made and has no other owner.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    // SAFETY: all fields are integers, for which zero is a value.
    let mut entry: THREADENTRY32 = unsafe { std::mem::zeroed() };
    entry.dwSize = size_of::<THREADENTRY32>() as u32;
    // SAFETY: the snapshot is open, and the entry states its length.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == pid {
            // SAFETY: takes integers.
            let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID) };
            if thread.is_null() {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the handle was just made and has no other owner.
            let thread = unsafe { OwnedHandle::from_raw_handle(thread) };
            // SAFETY: the handle is open.
            return match unsafe { ResumeThread(thread.as_raw_handle()) } {
                u32::MAX => Err(io::Error::last_os_error()),
                _ => Ok(()),
            };
        }
        // SAFETY: the snapshot is open, and the entry states its length.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Err(io::Error::other("it has no thread"))
}

fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspended() -> Child {
        let mut command = Command::new("cmd");
        command.args(["/c", "exit 3"]);
        command.creation_flags(CREATE_NO_WINDOW | CREATE_SUSPENDED);
        command.spawn().unwrap()
    }

    #[tokio::test]
    async fn a_suspended_process_runs_again_by_either_way() {
        let mut child = suspended();
        resume_process(child.raw_handle().unwrap()).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        let mut child = suspended();
        resume_thread_of(child.id().unwrap()).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
    }

    #[test]
    fn only_what_another_start_would_not_change_is_the_releases_fault() {
        for (code, is_fault) in [
            (2, true),
            (3, true),
            (193, true),
            (216, true),
            (740, true),
            // Denied, in use, and held by a virus scanner: all of them may pass.
            (5, false),
            (32, false),
            (225, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_releases_fault(&error), is_fault, "{code}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_the_releases_fault_wherever_it_was_looked_for() {
        for program in ["no-such-program", r"C:\no\such\program.exe"] {
            let error = std::process::Command::new(program).spawn().unwrap_err();
            assert!(is_releases_fault(&error), "{program}: {error:?}");
        }
    }
}
