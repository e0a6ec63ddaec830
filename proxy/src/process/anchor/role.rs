//! The anchor itself: it starts proxy processes, one after the other, and keeps things for them.

#![expect(unsafe_code, reason = "descriptors are registered and passed on")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::protocol::{Channel, LINK, PROTOCOL, Program, Reply, Request};
use crate::os::service_manager::passed_listener;
use crate::os::signal::{reset, unblock_in};
use crate::process::children;

/// Maximum number of crashes of proxy processes within [`CRASH_PERIOD`]. Beyond it the anchor ends,
/// and whatever supervises handoff takes over.
const MAX_CRASHES: usize = 5;
const CRASH_PERIOD: Duration = Duration::from_secs(60);
/// Pause before the next proxy process for each crash within that period but the first.
const CRASH_PAUSE: Duration = Duration::from_millis(250);

/// Signals that the proxy process receives in the place of the anchor.
const FORWARDED: [Signal; 6] = [
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
];
/// Those of them that ask for the end.
const ENDING: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// The things that are kept for proxy processes.
#[derive(Debug, Default)]
struct Kept {
    children: BTreeMap<u32, KeptProcess>,
    descriptors: BTreeMap<String, OwnedFd>,
    notes: BTreeMap<String, String>,
    crash: Option<String>,
    crashes: u32,
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

/// A running proxy process.
struct Proxy {
    child: Child,
    link: AsyncFd<Channel>,
    is_serving: bool,
}

/// The end of a proxy process.
struct ProxyEnd {
    status: ExitStatus,
    was_serving: bool,
}

/// Runs the anchor to its end, and returns the exit code.
///
/// # Errors
/// The proxy process cannot be started, or crashes again and again.
pub fn run() -> io::Result<u8> {
    reset();
    // Children are watched by it (Linux 5.3).
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    // One thread, which lives as long as the process: children end with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(keep())
}

async fn keep() -> io::Result<u8> {
    let mut signals = listen()?;
    let mut kept = Kept::default();
    if let Some(listener) = passed_listener()? {
        kept.descriptors.insert("listener".into(), listener.into());
    }
    let mut recent: Vec<Instant> = Vec::new();
    let mut is_ending = false;
    let mut has_served = false;
    loop {
        let mut proxy = Proxy::start()?;
        let end = proxy.serve(&mut kept, &mut signals, &mut is_ending).await?;
        let ProxyEnd {
            status,
            was_serving,
        } = end;
        has_served |= was_serving;
        if status.success() || is_ending || !has_served {
            kept.end_all();
            return Ok(exit_code(status));
        }
        recent.retain(|crash| crash.elapsed() < CRASH_PERIOD);
        recent.push(Instant::now());
        if recent.len() > MAX_CRASHES {
            kept.end_all();
            return Err(io::Error::other(format!(
                "the proxy process has crashed {} times within {} seconds, the last time with \
                 {status}: its log says more, and the anchor ends with the app",
                recent.len(),
                CRASH_PERIOD.as_secs(),
            )));
        }
        kept.crash = Some(status.to_string());
        kept.crashes += 1;
        let earlier = u32::try_from(recent.len() - 1).unwrap_or(u32::MAX);
        tokio::select! {
            () = sleep(CRASH_PAUSE.saturating_mul(earlier)) => {}
            () = end_requested(&mut signals) => {
                kept.end_all();
                return Ok(0);
            }
        }
    }
}

/// Waits for a signal that asks for the end.
async fn end_requested(signals: &mut UnboundedReceiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        if ENDING.contains(&signal) {
            return;
        }
    }
}

/// Registers for the signals that are forwarded.
fn listen() -> io::Result<UnboundedReceiver<Signal>> {
    let (sender, signals) = unbounded_channel();
    for number in FORWARDED {
        let mut received = signal(SignalKind::from_raw(number.as_raw()))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                // The receiver ends only with the process.
                let _ = sender.send(number);
            }
        });
    }
    Ok(signals)
}

/// Returns the exit code that a shell reports for such an end.
fn exit_code(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or(127);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(1)
}

// === impl Proxy ===

impl Proxy {
    /// Starts this program once more, as the proxy process.
    fn start() -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        ours.limit_stalls()?;
        // The very file that this process runs, also if it has been replaced.
        let mut command = Command::new("/proc/self/exe");
        let mut words = std::env::args_os();
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        let number = theirs.as_raw_fd();
        command
            .args(words)
            .env(LINK, number.to_string())
            // They name this process.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .env_remove("LISTEN_PIDFDID");
        children::end_with_this_thread(&mut command);
        pass_on(&mut command, number);
        // SAFETY: a channel owns its descriptor, and always names that one.
        let link = unsafe { AsyncFd::register(ours)? };
        Ok(Self {
            child: command.spawn()?,
            link,
            is_serving: false,
        })
    }

    /// Does what the proxy process asks for, until it has ended.
    async fn serve(
        &mut self,
        kept: &mut Kept,
        signals: &mut UnboundedReceiver<Signal>,
        is_ending: &mut bool,
    ) -> io::Result<ProxyEnd> {
        let mut is_linked = true;
        loop {
            tokio::select! {
                status = self.child.wait() => return Ok(ProxyEnd {
                    status: status?,
                    was_serving: self.is_serving,
                }),
                Some(signal) = signals.recv() => {
                    *is_ending |= ENDING.contains(&signal);
                    if let Some(pid) = pid_of(&self.child) {
                        // It may have ended a moment ago.
                        let _ = kill_process(pid, signal);
                    }
                }
                request = receive(&self.link), if is_linked => {
                    let done = match request {
                        Ok((request, descriptors)) => self.handle(request, descriptors, kept),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = done {
                        is_linked = false;
                        if error.kind() != io::ErrorKind::UnexpectedEof {
                            // It cannot be understood any more.
                            let _ = self.child.start_kill();
                        }
                    }
                }
            }
        }
    }

    fn handle(
        &mut self,
        request: Request,
        mut descriptors: Vec<OwnedFd>,
        kept: &mut Kept,
    ) -> io::Result<()> {
        let link = self.link.get_ref();
        match request {
            Request::Hello { protocol, version } if protocol != PROTOCOL => {
                let reason = format!(
                    "handoff {version} speaks protocol {protocol} with its anchor, which speaks \
                     {PROTOCOL}: restart handoff"
                );
                link.send(&Reply::Refused { reason }, &[])
            }
            Request::Hello { .. } => kept.welcome(link),
            Request::Spawn(program) => match start(&program) {
                Ok(process) => {
                    let pid = process.child.id().unwrap_or_default();
                    let pipes = [process.stdout.as_fd(), process.stderr.as_fd()];
                    link.send(&Reply::Started { pid }, &pipes)?;
                    kept.children.insert(pid, process);
                    Ok(())
                }
                Err(error) => link.send(&failure(&error), &[]),
            },
            Request::Reap { pid } => {
                let reply = kept.reap(pid);
                link.send(&reply.unwrap_or_else(|error| failure(&error)), &[])
            }
            Request::CloseInput { pid } => {
                if let Some(process) = kept.children.get_mut(&pid) {
                    drop(process.stdin.take());
                }
                Ok(())
            }
            Request::Keep { name } => {
                if let Some(descriptor) = descriptors.pop() {
                    kept.descriptors.insert(name, descriptor);
                }
                Ok(())
            }
            Request::Release { name } => {
                kept.descriptors.remove(&name);
                Ok(())
            }
            Request::Note { name, text } => {
                kept.notes.insert(name, text);
                Ok(())
            }
            Request::Serving => {
                self.is_serving = true;
                Ok(())
            }
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Sends all that is kept.
    fn welcome(&self, link: &Channel) -> io::Result<()> {
        let notes = self.notes.iter();
        let welcome = Reply::Welcome {
            protocol: PROTOCOL,
            children: self.children.len(),
            kept: self.descriptors.len(),
            notes: notes.map(|(a, b)| (a.clone(), b.clone())).collect(),
            crash: self.crash.clone(),
            crashes: self.crashes,
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
        Ok(())
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
    fn end_all(&self) {
        for process in self.children.values() {
            if let Some(group) = pid_of(&process.child) {
                // An error means that no process is left.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
}

/// Receives a message as soon as there is one. Cancel safe.
async fn receive(link: &AsyncFd<Channel>) -> io::Result<(Request, Vec<OwnedFd>)> {
    loop {
        let mut ready = link.readable().await?;
        // Whole messages are written at once: only the wait for the first byte may take long.
        if let Ok(peeked) = ready.try_io(|link| link.get_ref().peek()) {
            peeked?;
            return link.get_ref().receive();
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

/// Lets a child inherit a descriptor, which stays open here until the child runs.
fn pass_on(command: &mut Command, number: RawFd) {
    let inherit = move || {
        // SAFETY: the parent has it open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
    };
    // SAFETY: between fork and exec the closure makes one system call, allocates nothing and takes
    // no lock.
    unsafe { command.pre_exec(inherit) };
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
}

fn failure(error: &io::Error) -> Reply {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Reply::Failed { errno }
}
