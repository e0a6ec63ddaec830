//! Children of this process on Linux: their end with their parent, and the end of what they leave.

#![expect(unsafe_code, reason = "pre_exec has no safe interface")]

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::process::{Child, Command};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Lets a child die with this process.
///
/// The parent-death signal is sent at the end of the *thread* that forked (prctl(2),
/// PR_SET_PDEATHSIG): launch from a thread that lives as long as the process.
pub(super) fn end_with_this_thread(command: &mut Command) {
    let parent = rustix::process::getpid();
    let die_with_parent = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the call above.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls, allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(die_with_parent) };
}

/// Returns the id of a child that has not been reaped.
pub(super) fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
}

/// Sends a child a signal, unless it has ended.
pub(super) fn send_signal(child: &Child, signal: Signal) {
    if let Some(pid) = pid_of(child) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Reaps the processes that the root has left behind, if they have become children of this process:
/// if that is the first one of a container, no other can reap them.
///
/// The root has been reaped. Its group keeps its id while it has members, and nothing else waits for
/// them.
pub(super) fn reap_rest(group: Pid) {
    // Usually an error: there are no such children.
    let next = move || rustix::process::waitpgid(group, WaitOptions::NOHANG);
    let mut reaped = next();
    while let Ok(Some(_)) = reaped {
        reaped = next();
    }
    if reaped.is_ok() {
        tokio::spawn(async move {
            while let Ok(reaped) = next() {
                if reaped.is_none() {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        });
    }
}
