//! The search for an instance that listens elsewhere than on its port.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::process::tree::ProcessTree;

/// Time after which an instance that is not ready is first searched for other ports. Each next time
/// is twice as long: a look costs some milliseconds.
const FIRST_LOOK_ELSEWHERE: Duration = Duration::from_secs(2);

/// Looks now and then at which other ports the instance listens, and logs the first finding.
pub(super) async fn look_elsewhere(
    tree: &ProcessTree,
    port: u16,
    hint: &RefCell<String>,
) -> Infallible {
    let mut look_after = FIRST_LOOK_ELSEWHERE;
    loop {
        tokio::time::sleep(look_after).await;
        look_after *= 2;
        let found = describe_elsewhere(tree, port).await.unwrap_or_default();
        if hint.borrow().is_empty() && !found.is_empty() {
            tracing::info!(
                event = "listens_elsewhere",
                port,
                "an instance is not ready{found}"
            );
        }
        hint.replace(found);
    }
}

/// Returns the end of a sentence that says where an instance listens instead of its port, if it does.
pub(super) async fn describe_elsewhere(tree: &ProcessTree, port: u16) -> Option<String> {
    describe_listeners(&tree.listeners().await, port)
}

/// Describes the listeners of an instance none of which is where it is probed.
fn describe_listeners(listeners: &[SocketAddr], port: u16) -> Option<String> {
    let is_probed = |listener: &SocketAddr| {
        let ip = listener.ip().to_canonical();
        let loopback = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ];
        listener.port() == port && (ip.is_unspecified() || loopback.contains(&ip))
    };
    if listeners.is_empty() || listeners.iter().any(is_probed) {
        return None;
    }
    let join = |listeners: &[SocketAddr]| {
        let texts: Vec<_> = listeners.iter().map(SocketAddr::to_string).collect();
        texts.join(" and ")
    };
    let (on_port, others): (Vec<_>, Vec<_>) = listeners
        .iter()
        .partition(|listener| listener.port() == port);
    Some(if on_port.is_empty() {
        format!(
            "; it listens on {}, not on its port {port}: pass it {{port}}, or let it read PORT",
            join(&others)
        )
    } else {
        format!(
            "; it listens on {}, not on 127.0.0.1: pass it {{host}}, or set the variable that names \
             its address (HOST, HOSTNAME) to 127.0.0.1",
            join(&on_port)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_described_where_none_can_be_probed() {
        let describe = |listeners: &[&str]| {
            let listeners: Vec<_> = listeners.iter().map(|it| it.parse().unwrap()).collect();
            describe_listeners(&listeners, 4000)
        };
        for probed in ["127.0.0.1:4000", "0.0.0.0:4000", "[::1]:4000", "[::]:4000"] {
            assert_eq!(describe(&[probed, "127.0.0.1:9229"]), None, "{probed}");
        }
        assert_eq!(describe(&[]), None);
        let port = describe(&["127.0.0.1:3000", "[::1]:3000"]).unwrap();
        let expected =
            "it listens on 127.0.0.1:3000 and [::1]:3000, not on its port 4000: pass it {port}";
        assert!(port.contains(expected), "{port}");
        let address = describe(&["172.17.0.2:4000", "127.0.0.1:9229"]).unwrap();
        let expected = "it listens on 172.17.0.2:4000, not on 127.0.0.1: pass it {host}";
        assert!(address.contains(expected), "{address}");
    }
}
