//! The readiness check that gates promotion.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::probe::Probe;

/// Minimum time between probes: many apps are ready in a few milliseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// Divisor of the time waited so far that gives the time to the next probe: readiness is detected
/// late by at most an eighth of the time that the start took.
const LATE_BY: u32 = 8;

/// Settings of the readiness check.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Request to the app.
    pub probe: Probe,
    /// Maximum time from the end of one probe to the next.
    pub interval: Duration,
    /// Number of successful probes in a row.
    pub rise: u32,
    /// Paths that are requested after that, so that the first client does not wait for them.
    pub warmup: Vec<PathAndQuery>,
    /// Check that the listener belongs to the instance.
    pub owner_check: OwnerCheck,
}

/// The consequence of another program listening on the app's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerCheck {
    /// The instance is not ready.
    Require,
    /// A warning appears in the log and in the status.
    Warn,
    /// None: the system is not asked.
    Off,
}

/// The end of a readiness check at its deadline.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadinessTimeout {
    /// Result of the last probe.
    pub last_probe: String,
}

// === impl Readiness ===

impl Readiness {
    /// Probes until enough probes in a row succeed, and returns the address that answered. The
    /// result of the last failed probe is in `last_probe` meanwhile, followed by `hint`.
    ///
    /// # Errors
    /// [`ReadinessTimeout`] at the deadline.
    pub async fn wait_until_ready(
        &self,
        port: u16,
        deadline: Instant,
        last_probe: &RefCell<Option<String>>,
        hint: &RefCell<String>,
    ) -> Result<SocketAddr, ReadinessTimeout> {
        let ready = async {
            let begun = Instant::now();
            let mut successes = 0;
            loop {
                match self.probe.find(port).await {
                    Ok(address) => {
                        successes += 1;
                        if successes >= self.rise {
                            return address;
                        }
                    }
                    Err(failure) => {
                        successes = 0;
                        last_probe.replace(Some(format!("{failure}{}", hint.borrow())));
                    }
                }
                tokio::time::sleep(self.pause_after(begun.elapsed())).await;
            }
        };
        tokio::time::timeout_at(deadline, ready)
            .await
            .map_err(|_elapsed| ReadinessTimeout {
                last_probe: last_probe
                    .borrow()
                    .clone()
                    .unwrap_or_else(|| "no probe was answered".to_owned()),
            })
    }

    /// Returns the time to the next probe.
    fn pause_after(&self, waited: Duration) -> Duration {
        (waited / LATE_BY).max(SHORTEST_PAUSE).min(self.interval)
    }

    /// Requests the warm-up paths. Their responses do not count: the instance has passed its
    /// readiness check.
    pub async fn warm_up(&self, address: SocketAddr, last_probe: &RefCell<Option<String>>) {
        for path in &self.warmup {
            last_probe.replace(Some(format!("the warm-up GET {path} is not answered yet")));
            match self.probe.visit(address, path).await {
                Ok(status) if status.is_server_error() => tracing::warn!(
                    event = "warmup_failed",
                    %address,
                    %path,
                    status = status.as_u16(),
                    "a warm-up request was answered with an error"
                ),
                Ok(status) => tracing::debug!(
                    event = "warmup_answered",
                    %address,
                    %path,
                    status = status.as_u16(),
                    "a warm-up request was answered"
                ),
                Err(error) => tracing::warn!(
                    event = "warmup_failed",
                    %address,
                    %path,
                    %error,
                    "a warm-up request was not answered"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn readiness() -> Readiness {
        Readiness {
            probe: Probe {
                path: "/up".parse().unwrap(),
                host: None,
                timeout: Duration::from_secs(5),
                expected: 200..=399,
            },
            interval: Duration::from_millis(1),
            rise: 1,
            warmup: Vec::new(),
            owner_check: OwnerCheck::Off,
        }
    }

    /// Serves the next of `answers` on each connection, and the last one from then on.
    async fn app(answers: &'static [&'static str]) -> u16 {
        counted(answers, &std::sync::Arc::default()).await
    }

    async fn counted(
        answers: &'static [&'static str],
        asked: &std::sync::Arc<std::sync::atomic::AtomicUsize>,
    ) -> u16 {
        let asked = std::sync::Arc::clone(asked);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = answers[turn.min(answers.len() - 1)];
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn wait(port: u16, timeout: Duration) -> Result<SocketAddr, ReadinessTimeout> {
        let deadline = Instant::now() + timeout;
        wait_for(&readiness(), port, deadline).await
    }

    #[tokio::test]
    async fn it_is_ready_once_an_answer_is_as_expected() {
        let port = app(&[
            "",
            "junk\r\n\r\n",
            "HTTP/1.1 503 No\r\n\r\n",
            "HTTP/1.1 204 OK\r\n\r\n",
        ])
        .await;
        let ready = wait(port, Duration::from_secs(30)).await.unwrap();
        assert_eq!(ready.port(), port);
    }

    async fn wait_for(
        readiness: &Readiness,
        port: u16,
        deadline: Instant,
    ) -> Result<SocketAddr, ReadinessTimeout> {
        readiness
            .wait_until_ready(port, deadline, &RefCell::default(), &RefCell::default())
            .await
    }

    #[tokio::test]
    async fn as_many_good_answers_in_a_row_are_needed_as_the_options_say() {
        const GOOD: &str = "HTTP/1.1 204 OK\r\n\r\n";
        const BAD: &str = "HTTP/1.1 503 No\r\n\r\n";
        let readiness = Readiness {
            rise: 3,
            ..readiness()
        };
        let asked = std::sync::Arc::default();
        let port = counted(&[GOOD, GOOD, BAD, GOOD, GOOD, GOOD, GOOD], &asked).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        wait_for(&readiness, port, deadline).await.unwrap();
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 6);
    }

    #[test]
    fn an_instance_is_probed_often_at_first_and_never_less_often_than_the_interval() {
        let readiness = Readiness {
            interval: Duration::from_millis(500),
            ..readiness()
        };
        let pause = |ms| readiness.pause_after(Duration::from_millis(ms)).as_millis();
        assert_eq!([pause(0), pause(10), pause(400)], [2, 2, 50]);
        assert_eq!([pause(4_000), pause(60_000)], [500, 500]);
    }

    #[tokio::test]
    async fn says_what_the_last_probe_said() {
        let port = app(&["HTTP/1.1 500 No\r\n\r\n"]).await;
        let never = wait(port, Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(
            never.last_probe,
            "GET /up answered 500 Internal Server Error, expected 200 to 399"
        );
    }

    #[tokio::test]
    async fn says_that_nothing_listens() {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap().port()
        };
        let never = wait(port, Duration::from_millis(200)).await.unwrap_err();
        let start = format!("nothing listens on port {port}: ");
        assert!(never.last_probe.starts_with(&start), "{never:?}");
    }

    #[tokio::test]
    async fn finds_an_app_on_the_ipv6_loopback() {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            return eprintln!("skipped: this machine has no IPv6");
        };
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        });
        let ready = wait(address.port(), Duration::from_secs(30)).await;
        assert_eq!(ready, Ok(address));
    }
}
