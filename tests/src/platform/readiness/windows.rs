//! The table that the module itself asks for. (The crate that Linux uses gives no process whose
//! path it cannot find, and under Wine that is every one.)

#![expect(unsafe_code, reason = "the table has no safe interface")]

use std::ptr;

use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::AF_INET;

const ROW: usize = size_of::<MIB_TCPROW_OWNER_PID>();

/// Who listens on this port by IPv4.
pub(super) fn owner(port: u16) -> Option<u32> {
    // As words: a count, then rows of words.
    let mut table: Vec<u32> = Vec::new();
    loop {
        let mut length = size_of_val(table.as_slice()) as u32;
        // SAFETY: the table is as long as is said, and aligned for what is written.
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
            0 => break,
            // More may listen by the next time.
            _ if length as usize > size_of_val(table.as_slice()) => {
                table.resize(length as usize / size_of::<u32>() + 64, 0);
            }
            _ => return None,
        }
    }
    let (&count, rows) = table.split_first()?;
    let rows = rows.chunks_exact(ROW / size_of::<u32>());
    // State, local address, local port in network order, remote address and port, owner.
    let mut rows = rows.take(count as usize);
    let row = rows.find(|row| u16::from_be(row[2] as u16) == port)?;
    row.last().copied()
}
