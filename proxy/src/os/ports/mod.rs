//! Ports for instances, and the reason why one cannot be bound.
//!
//! A port is chosen before the app binds it, so another program may take it in between. An outgoing
//! connection of any process is the likeliest one: the system gives it a port of a known range
//! (RFC 6056, section 2.1), which is avoided here.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use socket2::{Domain, Protocol, Socket, Type};

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

/// Ports below this are those of well-known services, and of programs that people start by hand.
const FIRST: u16 = 10_000;
/// Fewer ports than this are too few to choose from at random.
const ENOUGH: u16 = 1_000;
/// Attempts to find a free port at random before the system is asked for one.
const ATTEMPTS: u32 = 200;

/// Chooses `count` different ports that can be bound now, outside the range of outgoing connections
/// where it leaves enough of them.
///
/// # Errors
/// `AddrInUse` if none was found.
pub fn choose(count: usize) -> io::Result<Vec<u16>> {
    // All are held until the last is found: no two are the same.
    let held: Vec<(Socket, u16)> = (0..count)
        .map(|_| choose_one())
        .collect::<io::Result<_>>()?;
    Ok(held.into_iter().map(|(_, port)| port).collect())
}

/// Returns whether a socket that is no leftover of an ended program keeps `port` from being bound.
///
/// Connections of an ended program that the system still closes do not count: it had the port.
pub fn is_taken(port: u16) -> bool {
    bind(port).is_err() && !os::is_left_over(port)
}

fn choose_one() -> io::Result<(Socket, u16)> {
    if let Some(ports) = outside_of(&os::outgoing_ports()?) {
        for _ in 0..ATTEMPTS {
            let port = fastrand::u16(ports.clone());
            if let Ok(socket) = bind(port) {
                return Ok((socket, port));
            }
        }
    }
    let socket = bind(0)?;
    let address = socket.local_addr()?.as_socket();
    let port = address.ok_or(io::ErrorKind::AddrNotAvailable)?.port();
    Ok((socket, port))
}

/// Returns the larger of the two ranges beside `outgoing`, if it is large enough.
fn outside_of(outgoing: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let below = FIRST..=outgoing.start().saturating_sub(1);
    let above = outgoing.end().saturating_add(1).max(FIRST)..=u16::MAX;
    let larger = if below.len() >= above.len() {
        below
    } else {
        above
    };
    (larger.len() >= usize::from(ENOUGH)).then_some(larger)
}

/// Binds a port on all addresses of this machine, IPv4 and IPv6: an app may bind any of them.
///
/// Without `SO_REUSEADDR`, since the app may not set it either.
fn bind(port: u16) -> io::Result<Socket> {
    if cfg!(windows) {
        // All addresses do not conflict with one there (Microsoft's documentation of
        // SO_EXCLUSIVEADDRUSE).
        bind_to((Ipv4Addr::LOCALHOST, port).into())?;
    }
    match bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind_to((Ipv4Addr::UNSPECIFIED, port).into())
        }
        bound => bound,
    }
}

fn bind_to(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn ports_are_chosen_outside_the_range_of_outgoing_connections() {
        let ports = choose(50).unwrap();
        let outgoing = os::outgoing_ports().unwrap();
        assert!(
            outside_of(&outgoing).is_none() || ports.iter().all(|port| !outgoing.contains(port)),
            "{ports:?} within {outgoing:?}"
        );
        let different: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(different.len(), ports.len());
    }

    #[test]
    fn the_larger_range_beside_that_of_outgoing_connections_is_taken() {
        for (outgoing, expected) in [
            (32_768..=60_999, Some(10_000..=32_767)),
            (49_152..=65_535, Some(10_000..=49_151)),
            (1_024..=40_000, Some(40_001..=65_535)),
            (1..=u16::MAX, None),
            (10_500..=65_000, None),
        ] {
            assert_eq!(outside_of(&outgoing), expected, "{outgoing:?}");
        }
    }

    #[test]
    fn a_port_is_taken_by_a_listener_and_by_an_outgoing_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        assert!(is_taken(listening.port()));
        // Wine sets SO_REUSEADDR on every socket, so that only a listener conflicts there.
        if cfg!(unix) {
            let outgoing = TcpStream::connect(listening).unwrap();
            assert!(is_taken(outgoing.local_addr().unwrap().port()));
        }
        let [free] = choose(1).unwrap()[..] else {
            panic!("one port");
        };
        assert!(!is_taken(free));
    }

    /// The end that closes first remembers the connection for a while (TIME_WAIT).
    #[test]
    fn connections_that_an_ended_program_has_closed_do_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        drop(listener);
        drop(client);
        assert!(!is_taken(address.port()));
    }
}
