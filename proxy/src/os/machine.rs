//! The scope in which a process id means something, and processes that other programs have named.

/// Returns the id of this boot of the machine. `None` if the system does not tell.
#[cfg(unix)]
pub fn boot() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned())
}

/// Returns `None`: Windows has no id for a boot.
#[cfg(windows)]
pub fn boot() -> Option<String> {
    None
}

/// Returns the name of the scope in which process ids are unique: this boot of this machine and, in
/// a container, its own numbers. `None` if the system does not tell.
#[cfg(unix)]
pub fn pid_namespace() -> Option<String> {
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot()?, namespace.display()))
}

/// Returns the name of the scope in which process ids are unique: this machine. A record that needs
/// the boot too has the start time, which Windows takes from the clock.
#[cfg(windows)]
pub fn pid_namespace() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Returns [`pid_namespace`], or `None` where processes of one scope may be hidden from each other.
///
/// They are on Azure: the site and Kudu run in sandboxes of one machine.
pub fn shared_pid_namespace() -> Option<String> {
    let is_sandboxed = cfg!(windows) && std::env::var_os("WEBSITE_INSTANCE_ID").is_some();
    pid_namespace().filter(|_| !is_sandboxed)
}

/// Returns the name of the machine, for people. `None` if the system does not tell.
#[cfg(unix)]
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

/// Returns the name of the machine, for people. `None` if the system does not tell.
#[cfg(windows)]
pub fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Returns whether there certainly is no running process with this id. One that has ended counts as
/// gone even if its parent never reaps it, as in many containers.
#[cfg(unix)]
pub fn is_gone(pid: u32) -> bool {
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};

    use super::procfs::ProcessStat;

    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    known.is_some_and(|known| test_kill_process(known) == Err(Errno::SRCH))
        || ProcessStat::read(pid).is_some_and(|stat| stat.has_ended())
}

/// Returns whether there certainly is no running process with this id.
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

    // SAFETY: takes integers; the returned handle is checked, and closed once.
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

/// Returns true if this process certainly runs the same program as the calling one.
#[cfg(unix)]
pub fn is_same_program(pid: u32) -> bool {
    let name = |path: std::path::PathBuf| path.file_name().map(std::ffi::OsStr::to_owned);
    let theirs = super::procfs::executable(pid).and_then(name);
    theirs.is_some() && theirs == std::env::current_exe().ok().and_then(name) && !is_gone(pid)
}

/// Returns true if this process certainly runs the same program as the calling one. Windows uses
/// ids again soon, so that is never certain.
#[cfg(windows)]
pub fn is_same_program(_pid: u32) -> bool {
    false
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
        assert_eq!(pid_namespace(), shared_pid_namespace());
    }
}
