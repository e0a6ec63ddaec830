//! Linux: a process group for the tree, a pidfd to see the root end before it is reaped, a
//! parent-death signal for when this process is killed.

#![expect(unsafe_code, reason = "a descriptor is registered")]

use std::collections::BTreeSet;
use std::future::ready;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use super::StopFuture;
use super::anchor::Root;
use super::children;
use super::orphans::MARK;
use super::stop::Stop;
use crate::os::procfs::{self, ProcessStat};

/// Maximum time for the processes that a stopped root leaves behind to stop too.
const STOP_REST_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The process group of one instance.
#[derive(Debug)]
pub(super) struct Tree {
    root: Pid,
    root_ended: Option<AsyncFd<OwnedFd>>,
    /// Signal for the processes that the root leaves behind, once it has been asked to stop.
    stop_signal: Option<Signal>,
    /// Processes of the tree when the root was asked to stop: those that it leaves behind lose their
    /// parent.
    asked: BTreeSet<u32>,
    is_reaped: bool,
}

/// Prepares a child that leads a process group of its own and dies with this process.
pub(super) fn prepare(command: &mut Command, _: &Stop) {
    command.process_group(0);
    children::end_with_this_thread(command);
}

/// Returns whether a start failed because of the program that was to be started.
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

/// Adds to an error of the system what it leaves out: nothing on Unix.
pub(super) fn explain_error(error: io::Error, _: &Path) -> io::Error {
    error
}

// === impl Tree ===

impl Tree {
    /// Takes charge of the group of a child that [`prepare`] has prepared.
    pub(super) fn adopt(root: &Root) -> io::Result<Self> {
        let pid = root.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let root = pid.ok_or(io::ErrorKind::NotFound)?;
        // Without a pidfd (Linux before 5.3) the root is reaped before the rest is killed.
        let root_ended = rustix::process::pidfd_open(root, PidfdFlags::NONBLOCK)
            .ok()
            .and_then(|fd| {
                // SAFETY: an owned descriptor is open until it is dropped, by the `AsyncFd`.
                unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
            });
        Ok(Self {
            root,
            root_ended,
            stop_signal: None,
            asked: BTreeSet::new(),
            is_reaped: false,
        })
    }

    /// Waits for the root, then kills what it left behind; after a stop, the rest is asked to stop
    /// first.
    pub(super) async fn wait(&mut self, root: &mut Root) -> io::Result<ExitStatus> {
        if let Some(root_ended) = &self.root_ended {
            // On an error `root.wait` waits instead.
            let _ = root_ended.readable().await;
            // Until the root is reaped, its id cannot become that of another group.
            if let Some(signal) = self.stop_signal {
                self.stop_rest(signal).await;
            }
            self.kill();
        }
        let status = root.wait().await;
        if self.root_ended.is_none() {
            self.kill();
        }
        if !std::mem::replace(&mut self.is_reaped, true) {
            children::reap_rest(self.root);
        }
        status
    }

    /// Notes that the root is being asked to stop: what it leaves behind gets a signal.
    pub(super) fn begin_stop(&mut self, stop: &Stop) {
        self.stop_signal = Some(signal_of(stop));
        self.asked = members(self.pids());
    }

    /// Sends the root the signal that stands for this way to stop.
    pub(super) fn signal(&self, stop: &Stop) -> StopFuture {
        let signal = signal_of(stop);
        let sent = rustix::process::kill_process(self.root, signal);
        Box::pin(ready(sent.map_err(io::Error::from)))
    }

    /// Kills the group.
    pub(super) fn kill(&self) {
        if !self.is_reaped {
            // An error means that no process is left.
            let _ = rustix::process::kill_process_group(self.root, Signal::KILL);
        }
    }

    async fn stop_rest(&self, signal: Signal) {
        let gone = async {
            while self.has_left_any() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        if rustix::process::kill_process_group(self.root, signal).is_ok() {
            let _ = tokio::time::timeout(STOP_REST_TIMEOUT, gone).await;
        }
    }

    /// Returns whether any process of the group but the root still runs. In a container, processes
    /// that have ended may never be reaped.
    fn has_left_any(&self) -> bool {
        let root = self.root_pid();
        let others = self.asked.iter().copied().filter(|&pid| pid != root);
        let is_left = |pid| {
            let stat = ProcessStat::read(pid);
            stat.is_some_and(|stat| stat.group == root && !stat.has_ended())
        };
        procfs::with_descendants(others).into_iter().any(is_left)
    }

    /// Returns whether all of the tree ends if this process is killed: only the root does.
    #[expect(clippy::unused_self, reason = "the same as on Windows")]
    pub(super) fn is_killed_with_sidecar(&self) -> bool {
        false
    }

    /// Returns processes from which all others of the tree descend.
    pub(super) fn pids(&self) -> Vec<u32> {
        vec![self.root_pid()]
    }

    fn root_pid(&self) -> u32 {
        self.root.as_raw_nonzero().get().cast_unsigned()
    }
}

/// Returns the processes of the tree that [`Tree::pids`] has returned processes of.
pub(super) fn members(pids: Vec<u32>) -> BTreeSet<u32> {
    procfs::with_descendants(pids)
}

/// Returns whether a process belongs to the instance with this root and mark, though it does not
/// descend from the root any more.
pub(super) fn is_adopted(pid: u32, root: u32, mark: &str) -> bool {
    let stat = ProcessStat::read(pid);
    let variable = format!("{MARK}={mark}").into_bytes();
    stat.is_some_and(|stat| stat.group == root)
        || procfs::has_variable(pid, |other| other == variable)
}

fn signal_of(stop: &Stop) -> Signal {
    match stop {
        Stop::CtrlC => Signal::INT,
        Stop::Term | Stop::CtrlBreak | Stop::Http { .. } | Stop::Stdin | Stop::Kill => Signal::TERM,
    }
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

    fn shell(script: &str) -> (Root, Tree) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        prepare(&mut command, &Stop::Term);
        let root = Root::spawn(command).unwrap();
        let tree = Tree::adopt(&root).unwrap();
        (root, tree)
    }

    async fn eventually(is_so: impl Fn() -> bool) {
        let so = async {
            while !is_so() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), so).await;
        waited.expect("it comes to that");
    }

    #[tokio::test]
    async fn who_has_ended_is_not_left_though_nobody_has_asked_how() {
        // The root has a child, and does not know of it.
        let (mut child, mut tree) = shell("sleep 0.2 & exec sleep 1000");
        eventually(|| members(tree.pids()).len() == 2).await;
        tree.begin_stop(&Stop::Term);
        assert_eq!(tree.asked.len(), 2);
        eventually(|| !tree.has_left_any()).await;
        assert_eq!(members(tree.pids()).len(), 2);
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
        let is_of_group = |pid| {
            let stat = ProcessStat::read(pid);
            stat.is_some_and(|stat| stat.group == tree.root_pid())
        };
        eventually(|| !procfs::pids().any(is_of_group)).await;
    }
}
