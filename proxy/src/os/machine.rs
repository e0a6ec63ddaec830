//! Whether a process that another program has told of is still there.

/// What tells this machine, its present boot and its process numbers from all others, if that can
/// be known: only within it does a process id mean anything.
#[cfg(target_os = "linux")]
pub fn machine() -> Option<String> {
    // A container has its own numbers.
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// What tells this machine from all others, if a process id means anything in it.
///
/// On Azure it does not: the site and Kudu run in sandboxes that do not see each other's processes.
#[cfg(not(target_os = "linux"))]
pub fn machine() -> Option<String> {
    match std::env::var_os("WEBSITE_INSTANCE_ID") {
        Some(_) => None,
        None => std::env::var("COMPUTERNAME").ok(),
    }
}

/// Whether this machine certainly has no such process.
#[cfg(unix)]
pub fn is_gone(pid: u32) -> bool {
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};

    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    known.is_some_and(|known| test_kill_process(known) == Err(Errno::SRCH)) || is_zombie(pid)
}

/// Whether it has ended, and whoever started it has not asked how: in a container often nobody ever
/// does. (proc_pid_stat(5): the state comes after the name, which may have anything in it.)
#[cfg(unix)]
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// Whether this machine certainly has no such process.
#[cfg(windows)]
#[expect(
    unsafe_code,
    reason = "asking for a process by its id has no safe interface"
)]
pub fn is_gone(pid: u32) -> bool {
    use windows_sys::Win32::Foundation::{
        CloseHandle, ERROR_INVALID_PARAMETER, GetLastError, WAIT_OBJECT_0,
    };
    use windows_sys::Win32::System::Threading::{
        OpenProcess, PROCESS_SYNCHRONIZE, WaitForSingleObject,
    };

    // SAFETY: takes integers; what it gives is checked, and closed once.
    unsafe {
        let process = OpenProcess(PROCESS_SYNCHRONIZE, 0, pid);
        if process.is_null() {
            return GetLastError() == ERROR_INVALID_PARAMETER;
        }
        let has_ended = WaitForSingleObject(process, 0) == WAIT_OBJECT_0;
        CloseHandle(process);
        has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_is_not_gone() {
        assert!(!is_gone(std::process::id()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_has_ended_is_gone() {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = WaitId::Pid(Pid::from_child(&child));
        waitid(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(is_gone(child.id()), "though nobody has asked how it ended");
        child.wait().unwrap();
        assert!(is_gone(child.id()));
        assert_eq!(machine(), machine());
    }
}
