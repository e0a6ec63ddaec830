//! The messages between the anchor and the proxy process, on a socket that no other process has.
//!
//! A message is its length and JSON; descriptors travel with the length. The proxy process asks and
//! the anchor responds, so that each side knows what comes next. An upgrade has a socket of its own, on
//! which the anchor sends a [`ReplacementOrder`](super::ReplacementOrder) and receives an [`Answer`]. Keys may be added; anything else is
//! another [`PROTOCOL`].

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::UpgradeRecord;

/// Number of the protocol. An anchor and a proxy process with different ones do not work together.
pub(super) const PROTOCOL: u32 = 3;

/// Variable with the number of the descriptor that leads to the anchor.
pub(super) const LINK: &str = "HANDOFF_ANCHOR_LINK";

/// Variable with the process id of the anchor, in the anchor itself.
pub(super) const ROLE: &str = "HANDOFF_ANCHOR_PID";

/// Name under which the public port is kept.
pub(super) const LISTENER: &str = "listener";
/// Name of the processes that have been replaced.
pub(super) const LEAVING: &str = "leaving";

/// Maximum length of a message: the environment and the arguments of a program, as numbers.
const MAX_LENGTH: usize = 64 * 1024 * 1024;
/// Maximum number of descriptors in a message: a child's standard input, output and error.
const MAX_DESCRIPTORS: usize = 3;
/// Maximum time for which the anchor waits for the rest of a message: its sender writes it at once.
const STALL: Duration = Duration::from_secs(10);

/// A message of the proxy process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first one: it has read its configuration, and can serve. The response is a
    /// [`Reply::Welcome`] with what is kept.
    Hello {
        /// [`PROTOCOL`]
        protocol: u32,
        /// Version of handoff.
        version: String,
    },
    /// Starts a program. The response is a [`Reply::Started`] with its pipes, or a
    /// [`Reply::Failed`].
    Spawn(Box<Program>),
    /// Asks for the exit status of a child that has ended: [`Reply::Reaped`].
    Reap { pid: u32 },
    /// Closes the standard input of a child.
    CloseInput { pid: u32 },
    /// Keeps the descriptor of this message under a name.
    Keep { name: String },
    /// Closes what is kept under a name.
    Release { name: String },
    /// Keeps a text under a name.
    Note { name: String, text: String },
    /// From now on an end that was not requested is a crash. The descriptor of this message is the
    /// program that the sender runs. The response is [`Reply::Confirmed`].
    Serving {
        /// Time since the beginning of the upgrade in milliseconds, if it is one.
        took_ms: Option<u64>,
    },
    /// Starts another program, which is to go on in the place of the sender. The descriptor of this
    /// message is the anchor's end of the socket for the upgrade.
    Upgrade {
        program: OsString,
        /// Number of the command.
        serial: u64,
    },
    /// It cannot serve, and is about to end.
    Unable { reason: String },
}

/// The answer to [`ReplacementOrder::StandStill`](super::ReplacementOrder::StandStill).
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It stands still, with so many requests and tunnels in flight.
    Still { in_flight: usize },
    /// It goes on: something is under way that another process could not go on with.
    Busy,
}

/// A message of the anchor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The head of what is kept: so many children and so many descriptors follow.
    Welcome {
        protocol: u32,
        children: usize,
        kept: usize,
        notes: Vec<(String, String)>,
        /// End of the proxy process before, if it was not requested.
        crash: Option<String>,
        crashes: u32,
        /// True if this process takes the place of one that runs.
        is_upgrade: bool,
        upgrades: Vec<UpgradeRecord>,
    },
    /// The proxy process is the one that serves.
    Confirmed,
    /// The anchor does not understand the proxy process.
    Refused { reason: String },
    /// A child, with its pipes: output, errors and perhaps standard input.
    Child { pid: u32, note: String },
    /// A kept descriptor.
    Kept { name: String },
    /// The program runs. Its pipes come with this message.
    Started { pid: u32 },
    /// The raw exit status of a child.
    Reaped { status: i32 },
    /// The error of the system.
    Failed { errno: i32 },
}

/// A program to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    /// All of its variables.
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) workdir: OsString,
    /// True if its standard input stays open until [`Request::CloseInput`].
    pub(super) has_input: bool,
    /// Text that comes back with the child.
    pub(super) note: String,
}

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

// === impl Channel ===

impl Channel {
    /// Creates both ends. Neither is inherited.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self(one), Self(other)))
    }

    /// Takes an end that was inherited.
    pub(super) fn from_inherited(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        // Fails for what is no socket.
        rustix::net::sockopt::socket_type(&socket)?;
        Ok(Self(UnixStream::from(socket)))
    }

    /// Limits the time for which the rest of a message is waited for.
    pub(super) fn limit_stalls(&self) -> io::Result<()> {
        self.0.set_read_timeout(Some(STALL))?;
        self.0.set_write_timeout(Some(STALL))
    }

    /// Sends a message.
    pub(super) fn send<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        let length = length.to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let head = [IoSlice::new(&length)];
        let sent = sendmsg(&self.0, &head, &mut ancillary, SendFlags::NOSIGNAL)?;
        (&self.0).write_all(&length[sent..])?;
        (&self.0).write_all(&json)
    }

    /// Receives a message. The end of the other process is [`io::ErrorKind::UnexpectedEof`].
    pub(super) fn receive<M: DeserializeOwned>(&self) -> io::Result<(M, Vec<OwnedFd>)> {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut length)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        (&self.0).read_exact(&mut length[received.bytes..])?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_LENGTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut json = vec![0; length];
        (&self.0).read_exact(&mut json)?;
        Ok((serde_json::from_slice(&json)?, descriptors))
    }

    /// Returns true if a message or the end is there, and an error like `WouldBlock` if not.
    pub(super) fn peek(&self) -> io::Result<()> {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.0, &mut byte, flags)?;
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    #[test]
    fn a_message_arrives_whole_and_with_its_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kept").unwrap();
        // More than the socket holds.
        let text = "x".repeat(1 << 20);
        let sender = std::thread::spawn({
            let text = text.clone();
            move || {
                let name = "a".to_owned();
                one.send(&Request::Note { name, text }, &[]).unwrap();
                let name = "b".to_owned();
                one.send(&Request::Keep { name }, &[file.as_fd()]).unwrap();
            }
        });
        let (first, none) = other.receive::<Request>().unwrap();
        assert!(matches!(first, Request::Note { text: arrived, .. } if arrived == text));
        assert!(none.is_empty());
        let (second, mut passed) = other.receive::<Request>().unwrap();
        assert!(matches!(second, Request::Keep { name } if name == "b"));
        let mut passed = std::fs::File::from(passed.remove(0));
        let mut content = String::new();
        passed.rewind().unwrap();
        passed.read_to_string(&mut content).unwrap();
        assert_eq!(content, "kept");
        sender.join().unwrap();
        let end = other.receive::<Request>().unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        (&one.0).write_all(&[2, 0, 0, 0, b'{', b'}']).unwrap();
        assert!(other.receive::<Request>().is_err());
        (&one.0).write_all(&[255; 4]).unwrap();
        let error = other.receive::<Request>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
