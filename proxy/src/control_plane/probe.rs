//! A single check request to an app.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::os::loopback::connect_at_once;

/// A check request, and the responses that count as success.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Path and query of the request, such as `/health?deep=1`.
    pub path: PathAndQuery,
    /// Value of the `Host` field; by default the address that is probed.
    pub host: Option<header::HeaderValue>,
    /// Maximum time for one probe.
    pub timeout: Duration,
    /// Status codes that count as success.
    pub expected: RangeInclusive<u16>,
}

/// The failure of one probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Nothing listens on the port.
    #[error("nothing listens on port {port}: {source}")]
    Connect {
        /// Port of the app.
        port: u16,
        /// Error of the connection. Azure's sandbox reports 10013 (forbidden), not 10061 (refused).
        source: std::io::Error,
    },
    /// The app sent no HTTP response.
    #[error("no HTTP answer to GET {path}: {source}")]
    Http {
        /// Path and query of the request.
        path: String,
        /// Error of the HTTP client.
        source: hyper::Error,
    },
    /// The response has another status code than expected.
    #[error("GET {path} answered {status}, expected {} to {}", expected.start(), expected.end())]
    Status {
        /// Path and query of the request.
        path: String,
        /// Status code of the response.
        status: StatusCode,
        /// Expected status codes.
        expected: RangeInclusive<u16>,
    },
    /// The app did not answer in time.
    #[error("GET {path} was not answered within {}", humantime::format_duration(*timeout))]
    Timeout {
        /// Path and query of the request.
        path: String,
        /// Maximum time for one probe.
        timeout: Duration,
    },
}

// === impl Probe ===

impl Probe {
    /// Probes 127.0.0.1 once, or ::1 if nothing listens there, and returns the address that
    /// succeeded.
    ///
    /// # Errors
    /// [`ProbeFailure`] if none succeeded.
    pub async fn find(&self, port: u16) -> Result<SocketAddr, ProbeFailure> {
        self.within_timeout(async {
            let (address, stream) = connect(port).await?;
            self.check(address, stream).await.map(|()| address)
        })
        .await
    }

    /// Probes once.
    ///
    /// # Errors
    /// [`ProbeFailure`] if the probe did not succeed.
    pub async fn ask(&self, address: SocketAddr) -> Result<(), ProbeFailure> {
        self.within_timeout(async {
            let port = address.port();
            let connect = TcpStream::connect(address).await;
            let stream = connect.map_err(|source| ProbeFailure::Connect { port, source })?;
            self.check(address, stream).await
        })
        .await
    }

    /// Requests another path without a time limit, and returns the status code of any response.
    ///
    /// # Errors
    /// [`ProbeFailure`] if there is no response.
    pub async fn visit(
        &self,
        address: SocketAddr,
        path: &PathAndQuery,
    ) -> Result<StatusCode, ProbeFailure> {
        let port = address.port();
        let connect = TcpStream::connect(address).await;
        let stream = connect.map_err(|source| ProbeFailure::Connect { port, source })?;
        self.get(address, stream, path).await
    }

    async fn within_timeout<T>(
        &self,
        asking: impl Future<Output = Result<T, ProbeFailure>>,
    ) -> Result<T, ProbeFailure> {
        let asked = tokio::time::timeout(self.timeout, asking);
        asked.await.unwrap_or_else(|_elapsed| {
            Err(ProbeFailure::Timeout {
                path: self.path.to_string(),
                timeout: self.timeout,
            })
        })
    }

    async fn check(&self, address: SocketAddr, stream: TcpStream) -> Result<(), ProbeFailure> {
        let status = self.get(address, stream, &self.path).await?;
        if self.expected.contains(&status.as_u16()) {
            return Ok(());
        }
        Err(ProbeFailure::Status {
            path: self.path.to_string(),
            status,
            expected: self.expected.clone(),
        })
    }

    async fn get(
        &self,
        address: SocketAddr,
        stream: TcpStream,
        path: &PathAndQuery,
    ) -> Result<StatusCode, ProbeFailure> {
        let no_answer = |source| ProbeFailure::Http {
            path: path.to_string(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(no_answer)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = path.clone().into();
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
        Ok(answer.await.map_err(no_answer)?.status())
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
    let source = match connect_at_once(v4).await {
        Ok(stream) => return Ok((v4, stream)),
        Err(error) => error,
    };
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    match connect_at_once(v6).await {
        Ok(stream) => Ok((v6, stream)),
        Err(_) => Err(ProbeFailure::Connect { port, source }),
    }
}
