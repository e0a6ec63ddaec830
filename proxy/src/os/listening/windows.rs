//! Windows: one call for the sockets of each family, which names their processes.

#![expect(unsafe_code, reason = "the table has no safe interface")]

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;

use windows_sys::Win32::Foundation::{CloseHandle, ERROR_ACCESS_DENIED};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCP6ROW_OWNER_PID, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::{ADDRESS_FAMILY, AF_INET, AF_INET6};
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION};

use super::{Holder, Listening};

/// Length of a row in words of 32 bits: state, local address and port, remote address and port, owner.
const WORDS: usize = size_of::<MIB_TCPROW_OWNER_PID>() / size_of::<u32>();
/// Length of a row in words of 32 bits: local address, scope and port, the same of the remote end,
/// state, owner.
const WORDS_V6: usize = size_of::<MIB_TCP6ROW_OWNER_PID>() / size_of::<u32>();
/// Id of the system's own process, which listens for all that use http.sys.
const SYSTEM: u32 = 4;

/// A listening socket, as everybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningSocket {
    /// Local address.
    pub address: SocketAddr,
    pid: Option<u32>,
}

pub(super) fn sockets(port: Option<u16>) -> Vec<ListeningSocket> {
    let mut all = rows(AF_INET, WORDS, |row| {
        let &[_state, address, port, _, _, pid] = row else {
            return None;
        };
        let address = Ipv4Addr::from(address.to_ne_bytes());
        Some(socket(address, port, pid))
    });
    all.extend(rows(AF_INET6, WORDS_V6, |row| {
        let &[a, b, c, d, _scope, port, _, _, _, _, _, _, _state, pid] = row else {
            return None;
        };
        let words = [a, b, c, d].map(u32::to_ne_bytes);
        let bytes: [u8; 16] = words.concat().try_into().ok()?;
        Some(socket(Ipv6Addr::from(bytes).to_canonical(), port, pid))
    }));
    all.retain(|socket| port.is_none_or(|port| port == socket.address.port()));
    all
}

/// The table names processes, not users.
pub(super) fn user_at(_: SocketAddr) -> io::Result<Option<u32>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn is_own_or_roots(_: u32) -> bool {
    false
}

pub(super) fn all() -> Vec<Listening> {
    let listening = |socket: ListeningSocket| Listening {
        pid: socket.pid,
        name: None,
        address: socket.address,
    };
    sockets(None).into_iter().map(listening).collect()
}

// === impl ListeningSocket ===

impl ListeningSocket {
    /// Returns whether one of these processes holds it; `None` if that cannot be seen.
    pub fn is_held_by(&self, pids: &BTreeSet<u32>) -> Option<bool> {
        Some(pids.contains(&self.pid?))
    }

    /// Returns whether it belongs to a user whose processes this one may not even look at.
    pub fn is_foreign(&self, _: &BTreeSet<u32>) -> bool {
        self.pid.is_some_and(|pid| pid != SYSTEM && is_hidden(pid))
    }

    /// Returns the process that holds it.
    pub fn find_holder(&self) -> Option<Holder> {
        let name = None;
        self.pid.map(|pid| Holder { pid, name })
    }

    /// Returns nothing: the table does not name the user.
    pub fn user(&self) -> Option<String> {
        None
    }
}

/// Returns a socket from fields of a row. Address and port are in network order, the port in the lower
/// half of its word.
fn socket(ip: impl Into<std::net::IpAddr>, port: u32, pid: u32) -> ListeningSocket {
    ListeningSocket {
        address: SocketAddr::new(ip.into(), u16::from_be(port as u16)),
        pid: (pid != 0).then_some(pid),
    }
}

fn is_hidden(pid: u32) -> bool {
    // SAFETY: takes integers.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if process.is_null() {
        let error = io::Error::last_os_error().raw_os_error();
        return error == Some(ERROR_ACCESS_DENIED.cast_signed());
    }
    // SAFETY: the handle was just made, and is closed once.
    unsafe { CloseHandle(process) };
    false
}

/// Reads the rows of a table.
fn rows(
    family: ADDRESS_FAMILY,
    words: usize,
    read: impl Fn(&[u32]) -> Option<ListeningSocket>,
) -> Vec<ListeningSocket> {
    let table = table(family).unwrap_or_default();
    let Some((&count, rows)) = table.split_first() else {
        return Vec::new();
    };
    let rows = rows.chunks_exact(words).take(count as usize);
    rows.filter_map(read).collect()
}

/// Reads the table of a family: a count, then the rows.
fn table(family: ADDRESS_FAMILY) -> Option<Vec<u32>> {
    let mut table: Vec<u32> = Vec::new();
    loop {
        let mut length = size_of_val(table.as_slice()) as u32;
        // SAFETY: the table has the given length, and is aligned for what is written.
        let error = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                ptr::from_mut(&mut length),
                0,
                family.into(),
                TCP_TABLE_OWNER_PID_LISTENER,
                0,
            )
        };
        match error {
            0 => return Some(table),
            // More sockets may listen at the next attempt.
            _ if length as usize > size_of_val(table.as_slice()) => {
                table.resize(length as usize / size_of::<u32>() + 64, 0);
            }
            _ => return None,
        }
    }
}
