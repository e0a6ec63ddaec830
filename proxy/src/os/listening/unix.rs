//! Linux: sockets by `sock_diag`, or by `/proc/net/tcp` where that is refused, and processes by their
//! descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Holder, Listening};
use crate::os::procfs;

#[path = "sock_diag.rs"]
mod sock_diag;

/// A listening socket, as everybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningSocket {
    /// Local address.
    pub address: SocketAddr,
    /// Id of the user who opened it.
    user: u32,
    inode: u64,
}

pub(super) fn sockets(port: Option<u16>) -> Vec<ListeningSocket> {
    sock_diag::sockets(port).unwrap_or_else(|_refused| {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        let all = tables.iter().flatten().flat_map(|table| listed(table));
        all.filter(|socket| port.is_none_or(|port| port == socket.address.port()))
            .collect()
    })
}

/// Returns the user whose socket gets the connections to an address; `None` if there is no such socket.
pub(super) fn user_at(address: SocketAddr) -> io::Result<Option<u32>> {
    sock_diag::user_at(address)
}

pub(super) fn is_own_or_roots(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

pub(super) fn all() -> Vec<Listening> {
    let sockets = sockets(None);
    let mut wanted: BTreeMap<u64, Option<u32>> = BTreeMap::new();
    wanted.extend(sockets.iter().map(|socket| (socket.inode, None)));
    for pid in procfs::pids() {
        for inode in procfs::sockets(pid).into_iter().flatten() {
            if let Some(holder) = wanted.get_mut(&inode) {
                holder.get_or_insert(pid);
            }
        }
    }
    let listening = |socket: ListeningSocket| {
        let pid = wanted.get(&socket.inode).copied().flatten();
        Listening {
            name: pid.and_then(procfs::name),
            pid,
            address: socket.address,
        }
    };
    sockets.into_iter().map(listening).collect()
}

// === impl ListeningSocket ===

impl ListeningSocket {
    /// Returns whether one of these processes holds it; `None` if that cannot be seen.
    ///
    /// The descriptors of a process that has changed its user may be hidden. The socket may be its
    /// own if that user opened it.
    pub fn is_held_by(&self, pids: &BTreeSet<u32>) -> Option<bool> {
        let mut may_be_theirs = false;
        for &pid in pids {
            match procfs::sockets(pid) {
                Ok(mut sockets) => {
                    if sockets.any(|inode| inode == self.inode) {
                        return Some(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_hidden) => {
                    let users = procfs::users(pid);
                    may_be_theirs |= users.is_none_or(|users| users.contains(&self.user));
                }
            }
        }
        (!may_be_theirs).then_some(false)
    }

    /// Returns whether it belongs to another user than these processes and this one. The
    /// administrator is no such user: nothing is safe from that one.
    pub fn is_foreign(&self, pids: &BTreeSet<u32>) -> bool {
        let users = pids.iter().filter_map(|&pid| procfs::users(pid)).flatten();
        !is_own_or_roots(self.user) && !users.into_iter().any(|user| user == self.user)
    }

    /// Finds the process that holds it, by a look at all processes.
    pub fn find_holder(&self) -> Option<Holder> {
        let holds = |pid: &u32| {
            let mut sockets = procfs::sockets(*pid).into_iter().flatten();
            sockets.any(|inode| inode == self.inode)
        };
        let pid = procfs::pids().find(holds)?;
        let name = procfs::name(pid);
        Some(Holder { pid, name })
    }

    /// Describes its user for a person.
    pub fn user(&self) -> Option<String> {
        Some(format!("user {}", self.user))
    }
}

/// Returns the listening sockets of a table of proc_net_tcp(5).
fn listed(table: &str) -> impl Iterator<Item = ListeningSocket> {
    /// State of a listening socket (`TCP_LISTEN`).
    const LISTEN: &str = "0A";
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, address, _, LISTEN, _, _, _, user, _, inode, ..] = &fields[..] else {
            return None;
        };
        Some(ListeningSocket {
            address: parse_address(address)?,
            user: user.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    })
}

/// Parses an address such as `0100007F:1F90`: words of four bytes in the order of this machine, then
/// the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = if ip.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        let bytes: [u8; 16] = words.concat().try_into().ok()?;
        Ipv6Addr::from(bytes).to_canonical()
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_list_the_same_sockets() {
        let v4 = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = std::net::TcpListener::bind("[::]:0");
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        let listed: Vec<_> = tables.iter().flatten().flat_map(|t| listed(t)).collect();
        for listener in [Ok(v4), v6].into_iter().flatten() {
            let address = listener.local_addr().unwrap();
            let is_it = |socket: &&ListeningSocket| socket.address == address;
            let by_table = listed.iter().find(is_it).unwrap();
            let asked = sockets(Some(address.port()));
            assert_eq!(asked.iter().find(is_it), Some(by_table), "{asked:?}");
            let this = BTreeSet::from([std::process::id()]);
            assert_eq!(by_table.is_held_by(&this), Some(true));
            assert!(!by_table.is_foreign(&this));
            assert_eq!(by_table.find_holder().unwrap().pid, std::process::id());
        }
    }

    #[test]
    fn a_socket_that_nobody_of_them_holds_is_told_apart_by_its_user() {
        let this = BTreeSet::from([std::process::id()]);
        let socket = |user| ListeningSocket {
            address: "127.0.0.1:80".parse().unwrap(),
            user,
            inode: u64::MAX,
        };
        assert_eq!(socket(4711).is_held_by(&this), Some(false));
        assert!(socket(4711).is_foreign(&this));
        assert!(!socket(0).is_foreign(&this), "the administrator's");
        // Of the first process of the machine nobody else sees the descriptors.
        if procfs::sockets(1).is_err() {
            let first = BTreeSet::from([1]);
            assert_eq!(socket(0).is_held_by(&first), None);
            assert_eq!(socket(4711).is_held_by(&first), Some(false));
        }
    }
}
