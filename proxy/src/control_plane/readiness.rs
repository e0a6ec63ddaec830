//! The health check that gates promotion.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::probe::Probe;

/// Many apps are ready in a few milliseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// An instance is found to be ready at most so much later than it is, in parts of the time that it
/// took: an eighth.
const LATE_BY: u32 = 8;

/// What is asked, how often, and what has to be true before an instance gets requests.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// The question.
    pub probe: Probe,
    /// From one probe's answer to the next probe, in the long run.
    pub interval: Duration,
    /// So many good answers in a row.
    pub rise: u32,
    /// What is asked for after that, so that the first client need not wait for it.
    pub warmup: Vec<PathAndQuery>,
    /// Whether the listener has to belong to the instance.
    pub identity: Identity,
}

/// What follows when the system says that another program listens on the app's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It is not ready.
    Require,
    /// A line in the log and in the status.
    Warn,
    /// Nothing: the system is not asked.
    Off,
}

/// The last probe's failure when there is no time left for another one.
#[derive(Debug, PartialEq, Eq)]
pub struct NeverReady {
    /// As a person reads it.
    pub last_probe: String,
}

// === impl Readiness ===

impl Readiness {
    /// Probes until enough answers in a row are good, and says which address gave them.
    ///
    /// What the last probe said is in `last_probe` meanwhile.
    ///
    /// # Errors
    /// [`NeverReady`] when none was good by the deadline.
    pub async fn wait(
        &self,
        port: u16,
        deadline: Instant,
        last_probe: &RefCell<Option<String>>,
    ) -> Result<SocketAddr, NeverReady> {
        let ready = async {
            let begun = Instant::now();
            let mut good = 0;
            loop {
                match self.probe.find(port).await {
                    Ok(address) => {
                        good += 1;
                        if good >= self.rise {
                            return address;
                        }
                    }
                    Err(failure) => {
                        good = 0;
                        last_probe.replace(Some(failure.to_string()));
                    }
                }
                tokio::time::sleep(self.pause(begun.elapsed())).await;
            }
        };
        tokio::time::timeout_at(deadline, ready)
            .await
            .map_err(|_elapsed| NeverReady {
                last_probe: last_probe
                    .borrow()
                    .clone()
                    .unwrap_or_else(|| "no probe was answered".to_owned()),
            })
    }

    /// Before the next probe, when so much time has passed.
    fn pause(&self, waited: Duration) -> Duration {
        (waited / LATE_BY).max(SHORTEST_PAUSE).min(self.interval)
    }

    /// Asks for what clients will ask for first. What comes is not judged: whether the instance is
    /// well has been asked before.
    pub async fn warm_up(&self, address: SocketAddr, last_probe: &RefCell<Option<String>>) {
        for path in &self.warmup {
            last_probe.replace(Some(format!("the warm-up GET {path} is not answered yet")));
            match self.probe.visit(address, path).await {
                Ok(status) if status.is_server_error() => {
                    tracing::warn!(%address, %path, %status, "warm-up");
                }
                Ok(status) => tracing::debug!(%address, %path, %status, "warm-up"),
                Err(error) => tracing::warn!(%address, %path, %error, "warm-up"),
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
            identity: Identity::Off,
        }
    }

    /// Answers each connection with the next of `answers`, then with the last one for ever.
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

    async fn wait(port: u16, timeout: Duration) -> Result<SocketAddr, NeverReady> {
        let deadline = Instant::now() + timeout;
        wait_for(&readiness(), port, deadline).await
    }

    #[tokio::test]
    async fn is_ready_once_an_answer_is_as_expected() {
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
    ) -> Result<SocketAddr, NeverReady> {
        readiness.wait(port, deadline, &RefCell::default()).await
    }

    #[tokio::test]
    async fn so_many_good_answers_in_a_row_are_needed() {
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
    fn who_is_ready_early_is_asked_often_and_nobody_less_often_than_said() {
        let readiness = Readiness {
            interval: Duration::from_millis(500),
            ..readiness()
        };
        let pause = |ms| readiness.pause(Duration::from_millis(ms)).as_millis();
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
