//! The health check that gates promotion.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Many apps are ready in a few milliseconds: the first pauses are shorter than the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// What is asked, how often, and which answers are good.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// `/health?deep=1`: path and query of the request.
    pub path: http::uri::PathAndQuery,
    /// The `Host` field of the request; by default the address that is probed.
    pub host: Option<header::HeaderValue>,
    /// From one probe's answer to the next probe, in the long run.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// The status codes that mean ready.
    pub expected: RangeInclusive<u16>,
}

/// Why one probe does not count.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Nothing accepts on the port.
    #[error("nothing listens on port {port}: {source}")]
    Connect {
        /// The port.
        port: u16,
        /// What the system said. Azure's sandbox says 10013 (forbidden), not 10061 (refused).
        source: std::io::Error,
    },
    /// What came was no HTTP answer.
    #[error("no HTTP answer to GET {path}: {source}")]
    Http {
        /// What was asked for.
        path: String,
        /// What was wrong with the answer.
        source: hyper::Error,
    },
    /// It answered, but not with what is expected.
    #[error("GET {path} answered {status}, expected {} to {}", expected.start(), expected.end())]
    Status {
        /// What was asked for.
        path: String,
        /// What came.
        status: StatusCode,
        /// What should have come.
        expected: RangeInclusive<u16>,
    },
    /// No answer in time.
    #[error("GET {path} was not answered within {timeout:?}")]
    Timeout {
        /// What was asked for.
        path: String,
        /// How long one probe may take.
        timeout: Duration,
    },
}

/// The last probe's failure when there is no time left for another one.
#[derive(Debug, PartialEq, Eq)]
pub struct NeverReady {
    /// As a person reads it.
    pub last_probe: String,
}

// === impl Readiness ===

impl Readiness {
    /// Probes until an answer is good, and says which address gave it.
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
            let mut pause = FIRST_PAUSE;
            loop {
                match self.probe(port).await {
                    Ok(address) => return address,
                    Err(failure) => last_probe.replace(Some(failure.to_string())),
                };
                tokio::time::sleep(pause.min(self.interval)).await;
                pause = pause.saturating_mul(2);
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

    /// Asks once, on 127.0.0.1 and then on ::1.
    async fn probe(&self, port: u16) -> Result<SocketAddr, ProbeFailure> {
        let asked = tokio::time::timeout(self.timeout, async {
            let (address, stream) = connect(port).await?;
            self.ask(address, stream).await.map(|()| address)
        });
        asked.await.unwrap_or_else(|_elapsed| {
            Err(ProbeFailure::Timeout {
                path: self.path.to_string(),
                timeout: self.timeout,
            })
        })
    }

    async fn ask(&self, address: SocketAddr, stream: TcpStream) -> Result<(), ProbeFailure> {
        let path = || self.path.to_string();
        let no_answer = |source| ProbeFailure::Http {
            path: path(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(no_answer)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        let host = match &self.host {
            Some(host) => host.clone(),
            None => header::HeaderValue::from_maybe_shared(Bytes::from(address.to_string()))
                .unwrap_or_else(|_| header::HeaderValue::from_static("localhost")),
        };
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, const { user_agent() });
        headers.insert(header::CONNECTION, const { close() });
        let answer = async {
            tokio::select! {
                answer = sender.send_request(request) => answer,
                // The connection ends first when the app closes without an answer.
                Err(error) = connection => Err(error),
            }
        };
        let status = answer.await.map_err(no_answer)?.status();
        match self.expected.contains(&status.as_u16()) {
            true => Ok(()),
            false => Err(ProbeFailure::Status {
                path: path(),
                status,
                expected: self.expected.clone(),
            }),
        }
    }
}

const fn user_agent() -> header::HeaderValue {
    header::HeaderValue::from_static("handoff-readiness")
}

const fn close() -> header::HeaderValue {
    header::HeaderValue::from_static("close")
}

async fn connect(port: u16) -> Result<(SocketAddr, TcpStream), ProbeFailure> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let source = match TcpStream::connect(v4).await {
        Ok(stream) => return Ok((v4, stream)),
        Err(error) => error,
    };
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    match TcpStream::connect(v6).await {
        Ok(stream) => Ok((v6, stream)),
        Err(_) => Err(ProbeFailure::Connect { port, source }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn readiness() -> Readiness {
        Readiness {
            path: "/up".parse().unwrap(),
            host: None,
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(5),
            expected: 200..=399,
        }
    }

    /// Answers each connection with the next of `answers`, then with the last one for ever.
    async fn app(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = answers[turn.min(answers.len() - 1)];
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn wait(port: u16, timeout: Duration) -> Result<SocketAddr, NeverReady> {
        let deadline = Instant::now() + timeout;
        readiness().wait(port, deadline, &RefCell::default()).await
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
