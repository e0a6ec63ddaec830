//! The proxy process's side of the anchor.

#![expect(unsafe_code, reason = "a descriptor is passed by its number")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStderr, ChildStdout, Command};

use super::protocol::{
    Answer, Channel, LEAVING, LINK, LISTENER, PROTOCOL, Program, Reply, Request,
};
use super::proxy::{receive, watch};
use super::step::UpgradeStep;
use super::{Inheritance, Input, KeptChild, ReplacementOrder};

/// Names under which things are kept.
const ADMIN: &str = "admin";
const RECORD: &str = "record";
const SIDECAR: &str = "sidecar";

/// The anchor of this process.
#[derive(Clone, Debug)]
pub struct Anchor(Rc<Channel>);

/// A child of the anchor.
#[derive(Debug)]
pub(in crate::process) struct AnchoredChild {
    anchor: Anchor,
    pid: u32,
    /// Its output and its errors, until they are taken.
    pipes: Vec<OwnedFd>,
    status: Option<ExitStatus>,
}

/// The replacement of this process, on the socket that belongs to it.
#[derive(Debug)]
pub struct Replacement(AsyncFd<Channel>);

/// Processes that have been replaced, and serve their connections to the end.
#[derive(Debug, Default)]
pub struct LeavingProcesses(Vec<OwnedFd>);

/// Returns true if this process is to be the anchor: it is wanted, and there is none yet.
#[must_use]
pub fn is_to_anchor(is_wanted: bool) -> bool {
    is_wanted && std::env::var_os(LINK).is_none()
}

// === impl Anchor ===

impl Anchor {
    /// Returns the anchor, if this process has one.
    ///
    /// # Errors
    /// There is none any more.
    pub fn open() -> io::Result<Option<Self>> {
        let Some(number) = std::env::var_os(LINK) else {
            return Ok(None);
        };
        let number = number.to_str().and_then(|number| number.parse().ok());
        let number: i32 = number
            .filter(|&number| number > 2)
            .ok_or_else(|| io::Error::other(format!("{LINK} is no descriptor")))?;
        // SAFETY: the anchor passed the descriptor for this call, which is made once.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Some(Self(Rc::new(Channel::from_inherited(socket)?))))
    }

    /// Says that this process has read its configuration, and returns what the anchor has kept for it.
    /// In an upgrade that takes until the process before stands still.
    ///
    /// # Errors
    /// The anchor has ended, or speaks another protocol.
    pub fn say_hello(&self) -> io::Result<Inheritance> {
        UpgradeStep::Configured.reach();
        let hello = Request::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let Reply::Welcome {
            children,
            kept,
            notes,
            crash,
            crashes,
            is_upgrade,
            upgrades,
            ..
        } = self.ask(&hello)?.0
        else {
            return Err(unexpected());
        };
        let mut notes: BTreeMap<_, _> = notes.into_iter().collect();
        let mut inherited = Inheritance {
            record: notes.remove(RECORD),
            sidecar: notes.remove(SIDECAR),
            crash,
            crashes,
            is_upgrade,
            upgrades,
            ..Inheritance::default()
        };
        for _ in 0..children {
            let (Reply::Child { pid, note }, pipes) = self.0.receive()? else {
                return Err(unexpected());
            };
            inherited.children.push(KeptChild {
                child: AnchoredChild::new(self, pid, pipes),
                note,
            });
        }
        for _ in 0..kept {
            let (Reply::Kept { name }, mut kept) = self.0.receive()? else {
                return Err(unexpected());
            };
            let Some(kept) = kept.pop() else {
                return Err(unexpected());
            };
            match name.as_str() {
                LISTENER => inherited.listener = Some(kept.into()),
                ADMIN => inherited.admin = Some(kept.into()),
                LEAVING => inherited.leaving.0.push(kept),
                // A lock, which is held by keeping it open.
                _ => {}
            }
        }
        UpgradeStep::Welcomed.reach();
        Ok(inherited)
    }

    /// Returns the process id of the anchor.
    #[must_use]
    pub fn pid(&self) -> u32 {
        rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Keeps the public port open when this process ends.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn keep_listener(&self, listener: &impl AsFd) -> io::Result<()> {
        self.keep(LISTENER, listener)
    }

    /// Keeps the port of `--admin` open when this process ends.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn keep_admin(&self, listener: &impl AsFd) -> io::Result<()> {
        self.keep(ADMIN, listener)
    }

    /// Lets the public port close with this process.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn release_listener(&self) -> io::Result<()> {
        let name = LISTENER.to_owned();
        self.0.send(&Request::Release { name }, &[])
    }

    /// Keeps a descriptor under a name when this process ends.
    pub(in crate::process) fn keep(&self, name: &str, what: &impl AsFd) -> io::Result<()> {
        let name = name.to_owned();
        self.0.send(&Request::Keep { name }, &[what.as_fd()])
    }

    /// Keeps the record of the supervisor.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn keep_record(&self, record: &str) -> io::Result<()> {
        self.note(RECORD, record)
    }

    /// Keeps the id of the sidecar.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn keep_sidecar(&self, sidecar: &str) -> io::Result<()> {
        self.note(SIDECAR, sidecar)
    }

    fn note(&self, name: &str, text: &str) -> io::Result<()> {
        let (name, text) = (name.to_owned(), text.to_owned());
        self.0.send(&Request::Note { name, text }, &[])
    }

    /// Reports that requests are served, in an upgrade after so many milliseconds: an end from now on is a
    /// crash, unless it was requested.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn report_serving(&self, took_ms: Option<u64>) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = rustix::fs::open("/proc/self/exe", flags, Mode::empty())?;
        UpgradeStep::Served.reach();
        let serving = Request::Serving { took_ms };
        self.0.send(&serving, &[program.as_fd()])?;
        let (Reply::Confirmed, _) = self.0.receive()? else {
            return Err(unexpected());
        };
        UpgradeStep::Serves.reach();
        Ok(())
    }

    /// Reports the reason for which this process is about to end. Without an anchor nobody needs it.
    pub fn report_unable(&self, reason: &str) {
        let reason = reason.to_owned();
        let _ = self.0.send(&Request::Unable { reason }, &[]);
    }

    /// Lets the anchor start a program that is to take the place of this process.
    ///
    /// # Errors
    /// The program may not be run, or the anchor has ended.
    pub fn replace(&self, program: &Path, serial: u64) -> io::Result<Replacement> {
        check_program(program)?;
        UpgradeStep::Ordered.reach();
        let (ours, theirs) = Channel::pair()?;
        let program = program.into();
        let request = Request::Upgrade { program, serial };
        self.0.send(&request, &[theirs.as_fd()])?;
        Ok(Replacement(watch(ours)?))
    }

    /// Lets the anchor start a program.
    pub(in crate::process) fn spawn(
        &self,
        command: &Command,
        input: Input,
        note: &str,
    ) -> io::Result<AnchoredChild> {
        let command = command.as_std();
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => env.insert(name.to_owned(), value.to_owned()),
                None => env.remove(name),
            };
        }
        let workdir = command.get_current_dir().unwrap_or_else(|| ".".as_ref());
        let program = Program {
            program: command.get_program().to_owned(),
            args: command.get_args().map(ToOwned::to_owned).collect(),
            env: env.into_iter().collect(),
            workdir: workdir.into(),
            has_input: input == Input::Open,
            note: note.to_owned(),
        };
        let (Reply::Started { pid }, pipes) = self.ask(&Request::Spawn(Box::new(program)))? else {
            return Err(unexpected());
        };
        Ok(AnchoredChild::new(self, pid, pipes))
    }

    /// Sends a request, and waits for its response.
    fn ask(&self, request: &Request) -> io::Result<(Reply, Vec<OwnedFd>)> {
        self.0.send(request, &[])?;
        match self.0.receive()? {
            (Reply::Refused { reason }, _) => Err(io::Error::other(reason)),
            (Reply::Failed { errno }, _) => Err(io::Error::from_raw_os_error(errno)),
            response => Ok(response),
        }
    }

    fn close_input(&self, pid: u32) -> io::Result<()> {
        self.0.send(&Request::CloseInput { pid }, &[])
    }

    fn reap(&self, pid: u32) -> io::Result<ExitStatus> {
        let Reply::Reaped { status } = self.ask(&Request::Reap { pid })?.0 else {
            return Err(unexpected());
        };
        Ok(ExitStatus::from_raw(status))
    }
}

// === impl Replacement ===

impl Replacement {
    /// Waits for the next message of the anchor. Cancel safe.
    ///
    /// # Errors
    /// The anchor has ended.
    pub async fn next(&self) -> io::Result<ReplacementOrder> {
        let order = receive(&self.0).await?.0;
        if order == ReplacementOrder::Leave {
            UpgradeStep::Leaves.reach();
        }
        Ok(order)
    }

    /// Reports that this process leaves alone what both have in common, with so many requests and tunnels
    /// in flight.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn report_still(&self, in_flight: usize) -> io::Result<()> {
        UpgradeStep::StoodStill.reach();
        self.0.get_ref().send(&Answer::Still { in_flight }, &[])?;
        UpgradeStep::StandsStill.reach();
        Ok(())
    }

    /// Reports that it cannot be replaced now.
    ///
    /// # Errors
    /// The anchor has ended.
    pub fn report_busy(&self) -> io::Result<()> {
        self.0.get_ref().send(&Answer::Busy, &[])
    }
}

// === impl LeavingProcesses ===

impl LeavingProcesses {
    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// One cannot be watched.
    pub async fn ended(self) -> io::Result<()> {
        for process in self.0 {
            // SAFETY: an owned descriptor is open until it is dropped, by the `AsyncFd`.
            let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE)? };
            // It is readable from its end on.
            drop(process.readable().await?);
        }
        Ok(())
    }
}

// === impl AnchoredChild ===

impl AnchoredChild {
    fn new(anchor: &Anchor, pid: u32, pipes: Vec<OwnedFd>) -> Self {
        Self {
            anchor: anchor.clone(),
            pid,
            pipes,
            status: None,
        }
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.status.is_none().then_some(self.pid)
    }

    pub(super) fn take_output(&mut self) -> io::Result<(Option<ChildStdout>, Option<ChildStderr>)> {
        let mut pipes = std::mem::take(&mut self.pipes).into_iter();
        let stdout = pipes.next().map(std::process::ChildStdout::from);
        let stderr = pipes.next().map(std::process::ChildStderr::from);
        Ok((
            stdout.map(ChildStdout::from_std).transpose()?,
            stderr.map(ChildStderr::from_std).transpose()?,
        ))
    }

    pub(super) fn close_input(&self) -> io::Result<()> {
        self.anchor.close_input(self.pid)
    }

    /// Returns the exit status of the child, which has ended.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self.anchor.reap(self.pid)?;
        self.status = Some(status);
        Ok(status)
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        // Until it is reaped, no other process has its id.
        match self.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            Some(pid) => Ok(rustix::process::kill_process(pid, Signal::KILL)?),
            None => Ok(()),
        }
    }
}

/// Checks that nobody else than root and the user of this process could have written the program:
/// whoever may write a command does not choose what runs with the rights of this process.
fn check_program(program: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(program)?;
    let own = rustix::process::geteuid().as_raw();
    let fault = if !program.is_absolute() {
        "it is no absolute path"
    } else if !metadata.is_file() {
        "it is no file"
    } else if metadata.mode() & 0o111 == 0 {
        "it is not executable: chmod +x"
    } else if metadata.uid() != 0 && metadata.uid() != own {
        "it belongs to another user than root and the one that runs handoff: chown"
    } else if metadata.mode() & 0o022 != 0 {
        "others than its owner may write it: chmod go-w"
    } else {
        return Ok(());
    };
    Err(io::Error::other(fault))
}

fn unexpected() -> io::Error {
    io::Error::other("the anchor has sent something else than what was asked for")
}
