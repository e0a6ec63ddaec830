//! Watches the active instance.
//!
//! Without a path only refused connections count: an app that is busy, or answers with errors,
//! may still be better than none.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::probe::{Probe, ProbeFailure};

/// Windows tries a refused connection again for two seconds before it says so (libuv#2896), which
/// is as well here: a busy listener whose queue is full refuses, too.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

/// What is asked, how often, and how many failures count.
#[derive(Clone, Debug)]
pub struct Liveness {
    /// The question; without one, whether it accepts connections.
    pub probe: Option<Probe>,
    /// From one probe's answer to the next probe.
    pub interval: Duration,
    /// So many failures in a row.
    pub fall: u32,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has failed so often that it counts; the last failure.
    Fell(String),
    /// It is well again.
    Rose,
}

// === impl Liveness ===

impl Liveness {
    /// Watches for as long as it is polled.
    pub async fn watch(&self, address: SocketAddr, report: impl Fn(Change)) {
        let mut failures = 0;
        loop {
            tokio::time::sleep(self.interval).await;
            match self.check(address).await {
                Ok(()) => {
                    if failures >= self.fall {
                        report(Change::Rose);
                    }
                    failures = 0;
                }
                Err(reason) => {
                    failures = failures.saturating_add(1);
                    tracing::debug!(%address, %reason, failures, "live check");
                    if failures == self.fall {
                        report(Change::Fell(reason));
                    }
                }
            }
        }
    }

    /// Checks until it is well.
    pub async fn is_well(&self, address: SocketAddr) {
        while self.check(address).await.is_err() {
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn check(&self, address: SocketAddr) -> Result<(), String> {
        if let Some(probe) = &self.probe {
            return probe.ask(address).await.map_err(|error| error.to_string());
        }
        let patience = self.interval.max(REFUSED_WITHIN);
        let connected = tokio::time::timeout(patience, TcpStream::connect(address)).await;
        match connected {
            Ok(Err(source)) if is_refused(&source) => {
                let port = address.port();
                Err(ProbeFailure::Connect { port, source }.to_string())
            }
            // Who has no room for a connection now is busy.
            Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// Whether nobody listens there.
fn is_refused(error: &io::Error) -> bool {
    // Azure's sandbox says 10013 (forbidden), not 10061 (refused).
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    fn check() -> Liveness {
        Liveness {
            probe: None,
            interval: Duration::from_millis(5),
            fall: 3,
        }
    }

    #[cfg(windows)]
    #[test]
    fn a_port_without_a_listener_is_forbidden_in_azures_sandbox_and_refused_elsewhere() {
        for (code, refused) in [
            (10_013, true),
            (10_061, true),
            (10_060, false),
            (10_055, false),
        ] {
            assert_eq!(
                is_refused(&io::Error::from_raw_os_error(code)),
                refused,
                "{code}"
            );
        }
    }

    #[tokio::test]
    async fn falls_when_connections_are_refused_and_rises_when_they_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (changes, mut changed) = mpsc::unbounded_channel();
        let watching = async move {
            let report = move |change| changes.send(change).unwrap();
            check().watch(address, report).await;
        };
        tokio::spawn(watching);
        drop(listener);
        let Some(Change::Fell(reason)) = changed.recv().await else {
            panic!("it fell");
        };
        assert!(reason.contains("nothing listens"), "{reason}");
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(changed.recv().await, Some(Change::Rose));
    }
}
