//! The processes of an instance, and the sockets on which they listen.
//!
//! All looks run on other threads: an instance may have any number of processes and descriptors. None
//! but [`Stranger::name`] looks at processes that are not the instance's.

use std::net::SocketAddr;

use super::os;
use crate::os::listening::{self, ListeningSocket};

/// A process tree, as it can be looked at from another thread.
#[derive(Clone, Debug)]
pub struct ProcessTree {
    root: u32,
    /// Processes of which the others descend.
    pids: Vec<u32>,
    /// Value of a variable that all processes of the instance have inherited; empty if there is none.
    mark: String,
}

/// The process that gets the connections to an address.
#[derive(Debug)]
pub enum PortOwner {
    /// The process tree itself, which listens at these addresses of the port.
    Tree(Vec<SocketAddr>),
    /// A process that does not descend from the root.
    Stranger(Stranger),
    /// Unknown: the system does not tell.
    Unknown,
}

/// A listener at the address of an instance that seems not to belong to the instance.
#[derive(Debug)]
pub struct Stranger {
    tree: ProcessTree,
    socket: ListeningSocket,
    /// True if it is another user's, who may read and forge what is sent there.
    pub is_foreign: bool,
}

// === impl ProcessTree ===

impl ProcessTree {
    pub(super) fn new(root: u32, pids: Vec<u32>, mark: String) -> Self {
        Self { root, pids, mark }
    }

    /// Returns the addresses on which the processes listen, as far as the system reports it.
    pub async fn listeners(&self) -> Vec<SocketAddr> {
        let tree = self.clone();
        let look = move || {
            let pids = os::members(tree.pids);
            let is_ours = |socket: &ListeningSocket| socket.is_held_by(&pids) == Some(true);
            let all = listening::sockets().into_iter().filter(is_ours);
            all.map(|socket| socket.address).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Returns the process that gets the connections to this very address.
    pub async fn owner(&self, address: SocketAddr) -> PortOwner {
        let tree = self.clone();
        let look = tokio::task::spawn_blocking(move || tree.find_owner(address));
        look.await.unwrap_or(PortOwner::Unknown)
    }

    fn find_owner(self, address: SocketAddr) -> PortOwner {
        let pids = os::members(self.pids.clone());
        let sockets = listening::sockets_of(address.port());
        let answering = listening::answering(address, &sockets);
        // Several sockets that share the address get connections in turn.
        let stranger = answering
            .iter()
            .find(|socket| socket.is_held_by(&pids) == Some(false));
        if let Some(&socket) = stranger {
            return PortOwner::Stranger(Stranger {
                is_foreign: socket.is_foreign(&pids),
                socket: socket.clone(),
                tree: self,
            });
        }
        let is_ours = |socket: &&ListeningSocket| socket.is_held_by(&pids) == Some(true);
        let ours: Vec<_> = sockets.iter().filter(is_ours).map(|s| s.address).collect();
        if ours.is_empty() {
            PortOwner::Unknown
        } else {
            PortOwner::Tree(ours)
        }
    }
}

// === impl Stranger ===

impl Stranger {
    /// Describes it for a person, by a look at all processes. Returns `None` if it belongs to the
    /// instance after all: it has lost its parent.
    pub async fn name(self) -> Option<String> {
        let look = tokio::task::spawn_blocking(move || self.find_name());
        look.await.ok().flatten()
    }

    fn find_name(self) -> Option<String> {
        let Self { tree, socket, .. } = &self;
        let user = socket.user();
        let user = user.map_or_else(String::new, |user| format!(" of {user}"));
        let Some(holder) = socket.find_holder() else {
            return Some(format!("a process{user}"));
        };
        // Another user may know and copy the mark, and cannot join the group.
        let mark = if self.is_foreign { "" } else { &tree.mark };
        let is_ours = os::is_adopted(holder.pid, tree.root, mark);
        (!is_ours).then(|| format!("{holder}{user}"))
    }
}
