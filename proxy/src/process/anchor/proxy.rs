//! A proxy process, as the anchor follows it.

#![expect(unsafe_code, reason = "descriptors are registered and passed on")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::ExitStatus;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal};
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use super::kept::{Beginning, Kept};
use super::protocol::{Channel, LINK, PROTOCOL, ROLE, Reply, Request};
use crate::process::children::{self, pid_of, send_signal};

/// A running proxy process.
#[derive(Debug)]
pub(super) struct Proxy {
    child: Child,
    link: AsyncFd<Channel>,
    is_linked: bool,
    /// Its version, once it has said it.
    pub(super) version: Option<String>,
}

/// An event in the life of a proxy process.
pub(super) enum ProxyEvent {
    /// It asks for something.
    Asks(Request, Vec<OwnedFd>),
    /// It has ended.
    Ended(ExitStatus),
}

// === impl Proxy ===

impl Proxy {
    /// Starts a program as a proxy process, with the arguments of this one.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = Command::new(program);
        let mut words = std::env::args_os();
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        let number = theirs.as_raw_fd();
        command
            .args(words)
            .env(LINK, number.to_string())
            // They name this process.
            .env_remove(ROLE)
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .env_remove("LISTEN_PIDFDID");
        children::end_with_this_thread(&mut command);
        pass_on(&mut command, number);
        Ok(Self {
            link: watch(ours)?,
            child: command.spawn()?,
            is_linked: true,
            version: None,
        })
    }

    /// Waits for its next request, or for its end. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<ProxyEvent> {
        loop {
            tokio::select! {
                status = self.child.wait() => return Ok(ProxyEvent::Ended(status?)),
                request = receive(&self.link), if self.is_linked => match request {
                    Ok((request, descriptors)) => {
                        return Ok(ProxyEvent::Asks(request, descriptors));
                    }
                    Err(error) => self.unlink(&error),
                },
            }
        }
    }

    /// Does what it asks for, which concerns nothing but what is kept.
    pub(super) fn handle(&mut self, request: Request, descriptors: Vec<OwnedFd>, kept: &mut Kept) {
        if let Err(error) = kept.handle(self.link.get_ref(), request, descriptors) {
            self.unlink(&error);
        }
    }

    /// Checks what it says of itself, and refuses it if it does not understand this anchor.
    pub(super) fn greet(&mut self, protocol: u32, version: String) -> Result<(), String> {
        if protocol == PROTOCOL {
            self.version = Some(version);
            return Ok(());
        }
        let reason = format!(
            "handoff {version} speaks protocol {protocol} with its anchor, which speaks {PROTOCOL}: \
             restart handoff"
        );
        let refused = Reply::Refused {
            reason: reason.clone(),
        };
        if let Err(error) = self.link.get_ref().send(&refused, &[]) {
            self.unlink(&error);
        }
        Err(reason)
    }

    /// Lets it begin.
    pub(super) fn welcome(&mut self, kept: &Kept, beginning: Beginning) {
        if let Err(error) = kept.welcome(self.link.get_ref(), beginning) {
            self.unlink(&error);
        }
    }

    /// Tells it that it is the one that serves.
    pub(super) fn confirm(&mut self) {
        if let Err(error) = self.link.get_ref().send(&Reply::Confirmed, &[]) {
            self.unlink(&error);
        }
    }

    /// Sends it a signal. It may have ended a moment ago.
    pub(super) fn signal(&self, signal: Signal) {
        send_signal(&self.child, signal);
    }

    /// Returns its process id.
    ///
    /// # Errors
    /// It has been reaped.
    pub(super) fn pid(&self) -> io::Result<Pid> {
        pid_of(&self.child).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Returns its process.
    pub(super) fn into_child(self) -> Child {
        self.child
    }

    /// Ends the talk: it has ended, or cannot be understood any more.
    fn unlink(&mut self, error: &io::Error) {
        self.is_linked = false;
        if error.kind() != io::ErrorKind::UnexpectedEof {
            let _ = self.child.start_kill();
        }
    }
}

/// Registers the anchor's end of a socket.
pub(super) fn watch(channel: Channel) -> io::Result<AsyncFd<Channel>> {
    channel.limit_stalls()?;
    // SAFETY: a channel owns its descriptor, and always names that one.
    unsafe { Ok(AsyncFd::register(channel)?) }
}

/// Receives a message as soon as there is one. Cancel safe.
pub(super) async fn receive<M: DeserializeOwned>(
    link: &AsyncFd<Channel>,
) -> io::Result<(M, Vec<OwnedFd>)> {
    loop {
        let mut ready = link.readable().await?;
        // Whole messages are written at once: only the wait for the first byte may take long.
        if let Ok(peeked) = ready.try_io(|link| link.get_ref().peek()) {
            peeked?;
            return link.get_ref().receive();
        }
    }
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
