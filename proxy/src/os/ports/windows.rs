//! Windows: no documented call tells the range of outgoing connections (only `netsh` does).

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// First port of the range since Windows Vista (Microsoft's documentation of "The default dynamic
/// port range for TCP/IP").
const DEFAULT_FIRST: u16 = 49_152;

/// Returns the range of local ports that outgoing connections get: the default one, unless a port
/// that the system chooses lies outside it. Then it has been changed, and may be any range.
pub(super) fn outgoing_ports() -> io::Result<RangeInclusive<u16>> {
    let chosen = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let chosen = chosen.local_addr()?.port();
    let first = if chosen < DEFAULT_FIRST {
        1
    } else {
        DEFAULT_FIRST
    };
    Ok(first..=u16::MAX)
}

/// Returns `false`: connections that are being closed do not prevent a port from being bound.
pub(super) fn is_left_over(_: u16) -> bool {
    false
}
