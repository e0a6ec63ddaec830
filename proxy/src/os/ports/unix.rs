//! Linux: the range and the table of sockets are files of /proc (proc_sys_net(5), proc_net_tcp(5)).

use std::fs;
use std::io;
use std::ops::RangeInclusive;

/// Returns the range of local ports that outgoing connections get.
pub(super) fn outgoing_ports() -> io::Result<RangeInclusive<u16>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok(first..=last),
        // The kernel's default.
        _ => Ok(32_768..=60_999),
    }
}

/// Returns whether all sockets of `port` belong to no process any more, and there are some.
pub(super) fn is_left_over(port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let tables = tables.map(Result::unwrap_or_default);
    let mut sockets = tables
        .iter()
        .flat_map(|table| sockets_of(table, port))
        .peekable();
    sockets.peek().is_some() && sockets.all(|inode| inode == "0")
}

/// Returns the inodes of a table's sockets with this local port; 0 is that of a socket without a process.
fn sockets_of(table: &str, port: u16) -> impl Iterator<Item = &str> {
    let suffix = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        local.ends_with(&suffix).then(|| fields.nth(7))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_local_port() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 06 00000000:00000000 03:000007D0 00000000     0        0 0 3 0
   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
";
        assert_eq!(sockets_of(table, 8080).collect::<Vec<_>>(), ["4711", "0"]);
        assert_eq!(sockets_of(table, 80).count(), 0);
    }
}
