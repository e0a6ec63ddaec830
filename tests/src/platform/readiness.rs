//! The module's check that a port listens.

use std::net::Ipv4Addr;

use handoff::os::listening;
use tokio::net::TcpStream;

/// Way in which the module looks at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A look into the system's table: the owner of an IPv4 listener has to be the child or a
    /// descendant.
    Table,
    /// A connection that is closed at once, as in Azure: any process may listen.
    Connect,
}

/// The result of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nobody,
    Somebody,
    /// A process listens; only the table names it.
    Owner(u32),
}

// === impl Look ===

impl Look {
    pub(super) async fn at(self, port: u16) -> Seen {
        match self {
            Self::Connect if answers(port).await => Seen::Somebody,
            Self::Connect => Seen::Nobody,
            Self::Table => {
                let all = tokio::task::spawn_blocking(listening::all).await;
                let all = all.unwrap_or_default();
                let mut here = all.iter().filter(|listening| {
                    listening.address.is_ipv4() && listening.address.port() == port
                });
                match here.next() {
                    None => Seen::Nobody,
                    Some(listening) => listening.pid.map_or(Seen::Somebody, Seen::Owner),
                }
            }
        }
    }
}

/// The probe after an exit, and Azure's readiness check: a connection that ends without a byte.
pub(super) async fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_ok()
}
