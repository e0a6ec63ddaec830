//! Linux: a process group for the tree, a pidfd to see the root end before it is reaped, a
//! parent-death signal for when this process is killed.

#![expect(unsafe_code, reason = "pre_exec has no safe interface")]

use std::future::ready;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use super::Asking;
use super::stop::Stop;
use crate::os::machine::is_gone;

/// What a root that was asked to stop leaves behind has this long to stop too.
const LEFT_BEHIND: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The process group of one instance.
#[derive(Debug)]
pub(super) struct Tree {
    root: Pid,
    root_ended: Option<AsyncFd<OwnedFd>>,
    asked_to_stop: Option<Signal>,
    reaped: bool,
}

/// Makes the child a group of its own that dies with this process.
///
/// The parent-death signal comes when the *thread* that forked ends (prctl(2),
/// PR_SET_PDEATHSIG), so launch from a thread that lives as long as the process.
pub(super) fn prepare(command: &mut Command, _: &Stop) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    let die_with_parent = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the call above.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls, allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(die_with_parent) };
}

/// Whether starting failed because of what was to be started.
pub(super) fn is_releases_fault(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::ACCESS
                | Errno::PERM
                | Errno::NOEXEC
        )
    )
}

/// What the system's error leaves out.
pub(super) fn explained(error: io::Error, _: &Path) -> io::Error {
    error
}

// === impl Tree ===

impl Tree {
    pub(super) fn adopt(child: &Child) -> io::Result<Self> {
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let root = pid.ok_or(io::ErrorKind::NotFound)?;
        // Without a pidfd (Linux before 5.3) the root is reaped before the rest is ended.
        let root_ended = rustix::process::pidfd_open(root, PidfdFlags::NONBLOCK)
            .ok()
            .and_then(|fd| {
                // SAFETY: an owned descriptor is open until it is dropped, by the `AsyncFd`.
                unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
            });
        Ok(Self {
            root,
            root_ended,
            asked_to_stop: None,
            reaped: false,
        })
    }

    /// Waits for the root, then ends what it left behind: at once after a crash, politely after a
    /// stop.
    pub(super) async fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        if let Some(root_ended) = &self.root_ended {
            // An error would only mean that waiting has to be left to `wait`.
            let _ = root_ended.readable().await;
            // While the root is not reaped, its number cannot become another group's.
            if let Some(signal) = self.asked_to_stop {
                self.ask_the_rest(signal).await;
            }
            self.kill();
        }
        let status = child.wait().await;
        if self.root_ended.is_none() {
            self.kill();
        }
        if !std::mem::replace(&mut self.reaped, true) {
            reap(self.root);
        }
        status
    }

    /// It is about to be asked to stop, in whatever way: what it leaves behind gets a signal.
    pub(super) fn will_stop(&mut self, stop: &Stop) {
        self.asked_to_stop = Some(signal_of(stop));
    }

    /// Sends the root the signal that stands for this way to stop.
    pub(super) fn signal(&self, stop: &Stop) -> Asking {
        let signal = signal_of(stop);
        let sent = rustix::process::kill_process(self.root, signal);
        Box::pin(ready(sent.map_err(io::Error::from)))
    }

    pub(super) fn kill(&self) {
        if !self.reaped {
            // That nobody is left is what was wanted.
            let _ = rustix::process::kill_process_group(self.root, Signal::KILL);
        }
    }

    async fn ask_the_rest(&self, signal: Signal) {
        let gone = async {
            while self.has_left_any() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if rustix::process::kill_process_group(self.root, signal).is_ok() {
            // Who is not gone by then is ended.
            let _ = tokio::time::timeout(LEFT_BEHIND, gone).await;
        }
    }

    /// Whether anybody but the root runs. In a container perhaps nobody ever asks how one that has
    /// ended did.
    fn has_left_any(&self) -> bool {
        let root = self.root.as_raw_nonzero().get().cast_unsigned();
        let mut pids = self.pids().into_iter();
        pids.any(|pid| pid != root && !is_gone(pid))
    }

    /// Whether all of it ends when this process is killed. Only the root does, at once.
    #[expect(clippy::unused_self, reason = "the same as on Windows")]
    pub(super) fn ends_with_us(&self) -> bool {
        false
    }

    /// The processes of the group.
    pub(super) fn pids(&self) -> Vec<u32> {
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid| group_of(pid) == Some(self.root.as_raw_nonzero().get()))
            .collect()
    }
}

/// Asks how those ended that the root has left behind, if they have become this process's children:
/// as the first process of a container it is the only one that could.
///
/// The root itself is reaped. Its group keeps its number as long as anybody is in it, and nobody else
/// waits for any of them.
fn reap(group: Pid) {
    // As a rule an error: there are none.
    let next = move || rustix::process::waitpgid(group, WaitOptions::NOHANG);
    let mut reaped = next();
    while let Ok(Some(_)) = reaped {
        reaped = next();
    }
    if reaped.is_ok() {
        tokio::spawn(async move {
            while let Ok(reaped) = next() {
                if reaped.is_none() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        });
    }
}

fn signal_of(stop: &Stop) -> Signal {
    match stop {
        Stop::CtrlC => Signal::INT,
        Stop::Term | Stop::CtrlBreak | Stop::Http { .. } | Stop::Stdin | Stop::Kill => Signal::TERM,
    }
}

/// The process group, the fifth field of `/proc/PID/stat` (proc(5)). The second, the name, may hold
/// blanks and brackets; nothing after its closing one does.
fn group_of(pid: u32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::process::set_child_subreaper;

    use super::*;

    #[test]
    fn what_is_no_program_is_the_releases_fault_and_what_is_short_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "no program").unwrap();
        symlink("circle", folder.path().join("circle")).unwrap();
        for program in [
            "none",
            "none/app",
            "file",
            "file/app",
            "circle",
            "circle/app",
        ] {
            let program = folder.path().join(program);
            let error = std::process::Command::new(&program).spawn().unwrap_err();
            assert!(is_releases_fault(&error), "{program:?}: {error}");
        }
        for short in [Errno::NOMEM, Errno::AGAIN, Errno::MFILE, Errno::TXTBSY] {
            assert!(!is_releases_fault(&short.into()), "{short}");
        }
    }

    fn shell(script: &str) -> (Child, Tree) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        prepare(&mut command, &Stop::Term);
        let child = command.spawn().unwrap();
        let tree = Tree::adopt(&child).unwrap();
        (child, tree)
    }

    async fn eventually(is_so: impl Fn() -> bool) {
        let so = async {
            while !is_so() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), so).await;
        waited.expect("it comes to that");
    }

    #[tokio::test]
    async fn who_has_ended_is_not_left_though_nobody_has_asked_how() {
        // The root has a child, and does not know of it.
        let (mut child, mut tree) = shell("sleep 0.2 & exec sleep 1000");
        eventually(|| tree.pids().len() == 2).await;
        eventually(|| !tree.has_left_any()).await;
        assert_eq!(tree.pids().len(), 2);
        tree.kill();
        tree.wait(&mut child).await.unwrap();
    }

    #[tokio::test]
    async fn what_the_root_leaves_behind_is_reaped_where_this_is_the_first_process() {
        // As in a container.
        set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let (mut child, mut tree) = shell("sleep 1000 & sh -c 'sleep 1000 & sleep 1000' & exit 3");
        let status = tree.wait(&mut child).await.unwrap();
        assert_eq!(status.code(), Some(3));
        let root = tree.root.as_raw_nonzero().get();
        let entries = || fs::read_dir("/proc").unwrap().flatten();
        let pids = || entries().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        eventually(|| pids().all(|pid| group_of(pid) != Some(root))).await;
    }
}
