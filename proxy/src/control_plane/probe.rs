//! One question to an app, and whether its answer is good.

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

/// What is asked, and which answers are good.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `/health?deep=1`: path and query of the request.
    pub path: PathAndQuery,
    /// The `Host` field of the request; by default the address that is probed.
    pub host: Option<header::HeaderValue>,
    /// For one probe.
    pub timeout: Duration,
    /// The status codes that are good.
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

// === impl Probe ===

impl Probe {
    /// Asks once, on 127.0.0.1 and then on ::1, and says which address gave a good answer.
    ///
    /// # Errors
    /// [`ProbeFailure`] when none did.
    pub async fn find(&self, port: u16) -> Result<SocketAddr, ProbeFailure> {
        self.in_time(async {
            let (address, stream) = connect(port).await?;
            self.judge(address, stream).await.map(|()| address)
        })
        .await
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`ProbeFailure`] when the answer is not good.
    pub async fn ask(&self, address: SocketAddr) -> Result<(), ProbeFailure> {
        self.in_time(async {
            let port = address.port();
            let connect = TcpStream::connect(address).await;
            let stream = connect.map_err(|source| ProbeFailure::Connect { port, source })?;
            self.judge(address, stream).await
        })
        .await
    }

    /// Asks for another path, for as long as it takes, and takes any answer.
    ///
    /// # Errors
    /// [`ProbeFailure`] when there is none.
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

    async fn in_time<T>(
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

    async fn judge(&self, address: SocketAddr, stream: TcpStream) -> Result<(), ProbeFailure> {
        let status = self.get(address, stream, &self.path).await?;
        match self.expected.contains(&status.as_u16()) {
            true => Ok(()),
            false => Err(ProbeFailure::Status {
                path: self.path.to_string(),
                status,
                expected: self.expected.clone(),
            }),
        }
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
