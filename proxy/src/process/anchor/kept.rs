//! The things that the anchor keeps for proxy processes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::task::Poll;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::process::{Child, Command};

use super::UpgradeRecord;
use super::protocol::{Channel, LEAVING, LISTENER, PROTOCOL, Program, Reply, Request};
use crate::os::service_manager::passed_listener;
use crate::os::signal::unblock_in;
use crate::process::children::{self, pid_of, send_signal};

/// Maximum number of upgrades that are remembered.
const UPGRADES: usize = 10;

/// The things that are kept for proxy processes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    children: BTreeMap<u32, KeptProcess>,
    descriptors: BTreeMap<String, OwnedFd>,
    notes: BTreeMap<String, String>,
    /// The program that served last.
    pub(super) program: Option<OwnedFd>,
    pub(super) crash: Option<String>,
    pub(super) crashes: u32,
    /// The last upgrades, the oldest first.
    pub(super) upgrades: Vec<UpgradeRecord>,
    /// Proxy processes that have been replaced, until they have ended.
    leaving: Vec<Child>,
}

/// The part of what is kept that a proxy process may change before it serves.
#[derive(Debug)]
pub(super) struct Before {
    children: Vec<u32>,
    notes: BTreeMap<String, String>,
}

/// A child that a proxy process has requested.
#[derive(Debug)]
struct KeptProcess {
    child: Child,
    stdout: OwnedFd,
    stderr: OwnedFd,
    stdin: Option<OwnedFd>,
    note: String,
}

/// The position of a proxy process that begins.
#[derive(Clone, Debug)]
pub(super) enum Beginning {
    /// No other one serves.
    Alone,
    /// It takes the place of one that serves.
    InPlaceOf(Pid, UpgradeRecord),
}

// === impl Kept ===

impl Kept {
    /// Returns what the service manager has passed.
    pub(super) fn passed() -> io::Result<Self> {
        let mut kept = Self::default();
        if let Some(listener) = passed_listener()? {
            kept.descriptors.insert(LISTENER.into(), listener.into());
        }
        Ok(kept)
    }

    /// Does what a proxy process asks for.
    pub(super) fn handle(
        &mut self,
        link: &Channel,
        request: Request,
        mut descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        match request {
            Request::Spawn(program) => match start(&program) {
                Ok(process) => {
                    let pid = process.child.id().unwrap_or_default();
                    let pipes = [process.stdout.as_fd(), process.stderr.as_fd()];
                    link.send(&Reply::Started { pid }, &pipes)?;
                    self.children.insert(pid, process);
                }
                Err(error) => link.send(&failure(&error), &[])?,
            },
            Request::Reap { pid } => {
                let reply = self.reap(pid);
                link.send(&reply.unwrap_or_else(|error| failure(&error)), &[])?;
            }
            Request::CloseInput { pid } => {
                if let Some(process) = self.children.get_mut(&pid) {
                    drop(process.stdin.take());
                }
            }
            Request::Keep { name } => {
                if let Some(descriptor) = descriptors.pop() {
                    self.descriptors.insert(name, descriptor);
                }
            }
            Request::Release { name } => drop(self.descriptors.remove(&name)),
            Request::Note { name, text } => drop(self.notes.insert(name, text)),
            // They concern the order of the processes.
            Request::Hello { .. }
            | Request::Serving { .. }
            | Request::Upgrade { .. }
            | Request::Unable { .. } => {}
        }
        Ok(())
    }

    /// Sends all that is kept.
    pub(super) fn welcome(&self, link: &Channel, beginning: Beginning) -> io::Result<()> {
        let (old, upgrade) = match beginning {
            Beginning::Alone => (None, None),
            Beginning::InPlaceOf(old, upgrade) => (Some(old), Some(upgrade)),
        };
        // None of them has been reaped.
        let leaving = self.leaving.iter().filter_map(pid_of).chain(old);
        let leaving: Vec<OwnedFd> = leaving
            .map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK))
            .collect::<Result<_, _>>()?;
        let notes = self.notes.iter();
        let is_upgrade = upgrade.is_some();
        let upgrades = self.upgrades.iter().cloned().chain(upgrade).collect();
        let welcome = Reply::Welcome {
            protocol: PROTOCOL,
            children: self.children.len(),
            kept: self.descriptors.len() + leaving.len(),
            notes: notes.map(|(a, b)| (a.clone(), b.clone())).collect(),
            crash: self.crash.clone(),
            crashes: self.crashes,
            is_upgrade,
            upgrades,
        };
        link.send(&welcome, &[])?;
        for (&pid, process) in &self.children {
            let note = process.note.clone();
            let pipes = [process.stdout.as_fd(), process.stderr.as_fd()];
            link.send(&Reply::Child { pid, note }, &pipes)?;
        }
        for (name, descriptor) in &self.descriptors {
            let name = name.clone();
            link.send(&Reply::Kept { name }, &[descriptor.as_fd()])?;
        }
        for process in &leaving {
            let name = LEAVING.to_owned();
            link.send(&Reply::Kept { name }, &[process.as_fd()])?;
        }
        Ok(())
    }

    /// Returns what [`Kept::restore`] needs.
    pub(super) fn before(&self) -> Before {
        Before {
            children: self.children.keys().copied().collect(),
            notes: self.notes.clone(),
        }
    }

    /// Takes back what a proxy process has changed that never served.
    pub(super) fn restore(&mut self, before: Before) {
        let Before { children, notes } = before;
        self.notes = notes;
        for (pid, process) in &self.children {
            if !children.contains(pid) {
                process.kill();
            }
        }
        self.children.retain(|pid, _| children.contains(pid));
    }

    /// Adds an upgrade to the last ones.
    pub(super) fn add_upgrade(&mut self, upgrade: UpgradeRecord) {
        let excess = (self.upgrades.len() + 1).saturating_sub(UPGRADES);
        self.upgrades.drain(..excess);
        self.upgrades.push(upgrade);
    }

    /// Keeps a proxy process that has been replaced until it has ended.
    pub(super) fn keep_leaving(&mut self, child: Child) {
        self.leaving.push(child);
    }

    /// Sends a signal to the proxy processes that have been replaced.
    pub(super) fn signal_leaving(&self, signal: Signal) {
        for child in &self.leaving {
            send_signal(child, signal);
        }
    }

    /// Waits for the end of the next proxy process that has been replaced. Cancel safe.
    pub(super) async fn reap_leaving(&mut self) {
        let ended = poll_fn(|cx| {
            for (index, child) in self.leaving.iter_mut().enumerate() {
                if std::pin::pin!(child.wait()).poll(cx).is_ready() {
                    return Poll::Ready(index);
                }
            }
            Poll::Pending
        });
        let index = ended.await;
        self.leaving.remove(index);
    }

    /// Returns the status of a child that has ended.
    fn reap(&mut self, pid: u32) -> io::Result<Reply> {
        let process = self.children.get_mut(&pid).ok_or(Errno::CHILD)?;
        let status = process.child.try_wait()?.ok_or(Errno::AGAIN)?;
        self.children.remove(&pid);
        if let Some(group) = Pid::from_raw(pid.cast_signed()) {
            children::reap_rest(group);
        }
        let status = status.into_raw();
        Ok(Reply::Reaped { status })
    }

    /// Kills what is left of the instances.
    pub(super) fn end_all(&self) {
        for process in self.children.values() {
            process.kill();
        }
    }
}

// === impl KeptProcess ===

impl KeptProcess {
    /// Kills its group.
    fn kill(&self) {
        if let Some(group) = pid_of(&self.child) {
            // An error means that no process is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Starts an instance.
fn start(program: &Program) -> io::Result<KeptProcess> {
    let mut command = Command::new(&program.program);
    command
        .args(&program.args)
        .env_clear()
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.workdir)
        .stdin(if program.has_input {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0);
    children::end_with_this_thread(&mut command);
    unblock_in(&mut command);
    let mut child = command.spawn()?;
    let lost = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdout = child.stdout.take().ok_or_else(lost)?;
    let stderr = child.stderr.take().ok_or_else(lost)?;
    let stdin = child.stdin.take();
    Ok(KeptProcess {
        stdout: stdout.into_owned_fd()?,
        stderr: stderr.into_owned_fd()?,
        stdin: stdin.map(|stdin| stdin.into_owned_fd()).transpose()?,
        note: program.note.clone(),
        child,
    })
}

fn failure(error: &io::Error) -> Reply {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Reply::Failed { errno }
}
