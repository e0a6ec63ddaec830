//! The liveness check of the active instance.
//!
//! Without a path only refused connections count: an app that is busy, or answers with errors,
//! may still be better than none.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::probe::{Probe, ProbeFailure};
use crate::os::listening;
use crate::router::AppProtocol;

/// Minimum time for a connection. Windows tries a refused connection again for two seconds before
/// it reports the refusal (libuv#2896). That helps here: a busy listener with a full queue refuses
/// connections, too.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

/// Settings of the liveness check.
#[derive(Clone, Debug)]
pub struct Liveness {
    /// Request to the app; without one, the check is that it accepts connections.
    pub probe: Option<Probe>,
    /// Time from the end of one check to the next.
    pub interval: Duration,
    /// Number of failures in a row after which the instance is unhealthy.
    pub fall: u32,
}

/// A change of the health of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivenessChange {
    /// The instance is unhealthy, with the reason of the last failure.
    Lost(String),
    /// The instance is healthy again.
    Recovered,
}

// === impl Liveness ===

impl Liveness {
    /// Checks the instance, and reports changes of its health, for as long as it is polled. If `user` is
    /// known, an address where only another one listens counts as refused.
    pub async fn watch(
        &self,
        address: SocketAddr,
        protocol: AppProtocol,
        user: Option<u32>,
        report: impl Fn(LivenessChange),
    ) {
        let mut failures = 0;
        loop {
            tokio::time::sleep(self.interval).await;
            let result = match find_stranger(address, user) {
                Some(stranger) => Err(stranger),
                None => self.check(address, protocol).await,
            };
            match result {
                Ok(()) => {
                    if failures >= self.fall {
                        report(LivenessChange::Recovered);
                    }
                    failures = 0;
                }
                Err(reason) => {
                    failures = failures.saturating_add(1);
                    tracing::debug!(
                        event = "liveness_check_failed",
                        %address,
                        %reason,
                        failures,
                        "a liveness check of the active instance failed"
                    );
                    if failures == self.fall {
                        report(LivenessChange::Lost(reason));
                    }
                }
            }
        }
    }

    /// Checks at `interval` until one check succeeds.
    pub async fn wait_until_healthy(&self, address: SocketAddr, protocol: AppProtocol) {
        while self.check(address, protocol).await.is_err() {
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn check(&self, address: SocketAddr, protocol: AppProtocol) -> Result<(), String> {
        if let Some(probe) = &self.probe {
            let answered = probe.ask(address, protocol).await;
            return answered.map_err(|error| error.to_string());
        }
        let timeout = self.interval.max(REFUSED_WITHIN);
        let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
        match connected {
            Ok(Err(source)) if is_refused(&source) => {
                let port = address.port();
                Err(ProbeFailure::Connect { port, source }.to_string())
            }
            // An app that has no room for a connection now is busy.
            Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// Describes another user's listener in place of that of `user`.
fn find_stranger(address: SocketAddr, user: Option<u32>) -> Option<String> {
    let is_anothers = listening::is_anothers(address, user?);
    let stranger = listening::user_at(address).filter(|_| is_anothers)?;
    let port = address.port();
    Some(format!(
        "in place of the app, a program of user {stranger} listens on port {port}"
    ))
}

/// Returns true if the error means that nothing listens.
fn is_refused(error: &io::Error) -> bool {
    // Azure's sandbox reports 10013 (forbidden), not 10061 (refused).
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
    async fn liveness_is_lost_when_connections_are_refused_and_recovers_when_they_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (changes, mut changed) = mpsc::unbounded_channel();
        let watching = async move {
            let report = move |change| changes.send(change).unwrap();
            check()
                .watch(address, AppProtocol::Http1, None, report)
                .await;
        };
        tokio::spawn(watching);
        drop(listener);
        let Some(LivenessChange::Lost(reason)) = changed.recv().await else {
            panic!("the check fails");
        };
        assert!(reason.contains("nothing listens"), "{reason}");
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(changed.recv().await, Some(LivenessChange::Recovered));
    }
}
