//! Windows: one call for all IPv4 sockets, as the platform uses no others. (The crate that Unix uses
//! looks up the process of each socket, which took ten seconds on a machine with many.)

#![expect(unsafe_code, reason = "the table has no safe interface")]

use std::net::Ipv4Addr;
use std::ptr;

use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::AF_INET;

use super::Listening;

/// Length of a row in words of 32 bits: state, local address and port, remote address and port, owner.
const WORDS: usize = size_of::<MIB_TCPROW_OWNER_PID>() / size_of::<u32>();

pub(super) fn all() -> Vec<Listening> {
    let table = table().unwrap_or_default();
    let Some((&count, rows)) = table.split_first() else {
        return Vec::new();
    };
    let rows = rows.chunks_exact(WORDS).take(count as usize);
    rows.filter_map(|row| {
        let &[_state, address, port, _, _, pid] = row else {
            return None;
        };
        // Both are in network order, the port in the lower half of its word.
        let address = Ipv4Addr::from(address.to_ne_bytes());
        Some(Listening {
            pid: (pid != 0).then_some(pid),
            name: None,
            address: (address, u16::from_be(port as u16)).into(),
        })
    })
    .collect()
}

/// Reads the table: a count, then the rows.
fn table() -> Option<Vec<u32>> {
    let mut table: Vec<u32> = Vec::new();
    loop {
        let mut length = size_of_val(table.as_slice()) as u32;
        // SAFETY: the table has the given length, and is aligned for what is written.
        let error = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                ptr::from_mut(&mut length),
                0,
                AF_INET.into(),
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
