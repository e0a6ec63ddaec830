//! A check of an app by a request, and the answers that count as success.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::net::TcpStream;

use self::exchange::{Answered, BodyUse, exchange};
use self::protocol::{recognise, spoken_at};
use self::redirect::Redirect;
use crate::os::loopback::connect_at_once;
use crate::router::AppProtocol;

mod exchange;
mod failure;
mod grpc;
mod protocol;
mod question;
mod redirect;

pub use failure::ProbeFailure;
pub use protocol::OtherProtocol;
pub use question::{Asked, AskedAs, ExpectedStatus};

/// Field that tells an app behind a proxy by which protocol its client came.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A check request, and the responses that count as success.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Path and query of the request, such as `/health?deep=1`.
    pub path: PathAndQuery,
    /// Value of the `Host` field; by default the address that is probed.
    pub host: Option<HeaderValue>,
    /// Further fields of the request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Maximum time for one probe.
    pub timeout: Duration,
    /// Status codes that count as success.
    pub expected: ExpectedStatus,
    /// Text that the body of a success contains.
    pub body: Option<String>,
    /// Instance that serves, whose answer shows what a doubtful one is worth.
    pub active: Option<SocketAddr>,
    /// Service whose health is asked for by gRPC, instead of a path; of all if its name is empty.
    pub grpc: Option<String>,
    /// Protocol of the app; `None` asks it first.
    pub protocol: Option<AppProtocol>,
}

/// An app that has answered.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its address.
    pub address: SocketAddr,
    /// Scheme that the request had.
    pub asked_as: AskedAs,
    /// Protocol that it speaks.
    pub protocol: AppProtocol,
}

/// A response that may count as success.
struct Answer {
    asked: Asked,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

// === impl Probe ===

impl Probe {
    /// Probes 127.0.0.1 once, or ::1 if nothing listens there, and returns the address that
    /// succeeded, and how it was asked.
    ///
    /// # Errors
    /// [`ProbeFailure`] if none succeeded.
    pub async fn find(&self, port: u16) -> Result<Found, ProbeFailure> {
        self.within_timeout(async {
            let (address, stream) = connect(port).await?;
            let protocol = match self.protocol {
                Some(protocol) => protocol,
                None => spoken_at(address).await,
            };
            let asked_as = self.check(address, protocol, stream).await?;
            Ok(Found {
                address,
                asked_as,
                protocol,
            })
        })
        .await
    }

    /// Probes once.
    ///
    /// # Errors
    /// [`ProbeFailure`] if the probe did not succeed.
    pub async fn ask(
        &self,
        address: SocketAddr,
        protocol: AppProtocol,
    ) -> Result<(), ProbeFailure> {
        self.within_timeout(async {
            let stream = reconnect(address).await?;
            self.check(address, protocol, stream).await.map(drop)
        })
        .await
    }

    /// Requests another path without a time limit, also by https if it redirects there, and returns
    /// the status code of any response.
    ///
    /// # Errors
    /// [`ProbeFailure`] if there is no response.
    pub async fn visit(
        &self,
        found: Found,
        path: &PathAndQuery,
    ) -> Result<StatusCode, ProbeFailure> {
        let Found {
            address,
            asked_as,
            protocol,
        } = found;
        let mut asked = Asked {
            path: path.clone(),
            asked_as,
            protocol,
        };
        let stream = reconnect(address).await?;
        let answer = self.get(address, stream, asked.clone()).await?;
        if asked_as == AskedAs::Http && self.redirect(address, &answer) == Some(Redirect::ToHttps) {
            asked.asked_as = AskedAs::Https;
            let stream = reconnect(address).await?;
            return Ok(self.get(address, stream, asked).await?.status);
        }
        Ok(answer.status)
    }

    async fn within_timeout<T>(
        &self,
        asking: impl Future<Output = Result<T, ProbeFailure>>,
    ) -> Result<T, ProbeFailure> {
        let asked = tokio::time::timeout(self.timeout, asking);
        asked.await.unwrap_or_else(|_elapsed| {
            Err(ProbeFailure::Timeout {
                what: match &self.grpc {
                    Some(_) => "the gRPC health check".to_owned(),
                    None => format!("GET {}", self.path),
                },
                timeout: self.timeout,
            })
        })
    }

    async fn check(
        &self,
        address: SocketAddr,
        protocol: AppProtocol,
        stream: TcpStream,
    ) -> Result<AskedAs, ProbeFailure> {
        if let Some(service) = &self.grpc {
            self.check_grpc(address, stream, service).await?;
            return Ok(AskedAs::Http);
        }
        let asked = Asked {
            path: self.path.clone(),
            asked_as: AskedAs::Http,
            protocol,
        };
        let answered = self.get(address, stream, asked).await;
        // Servers that expect TLS answer plain HTTP with 400, or not at all.
        let is_doubtful = match &answered {
            Ok(answer) => answer.status == StatusCode::BAD_REQUEST,
            Err(failure) => matches!(failure, ProbeFailure::Http { .. }),
        };
        if is_doubtful && let Some(spoken) = recognise(address).await {
            let is_other = spoken == OtherProtocol::Tls
                || (answered.is_err() && protocol == AppProtocol::Http1);
            if is_other {
                let port = address.port();
                return Err(ProbeFailure::Protocol {
                    protocol: spoken,
                    port,
                });
            }
        }
        let answer = self.follow(address, answered?).await?;
        let Answer { asked, status, .. } = answer;
        if !self.expected.contains(status) {
            let expected = self.expected.clone();
            return Err(ProbeFailure::Status {
                asked,
                status,
                expected,
            });
        }
        if let Some(text) = &self.body
            && !contains(&answer.body, text.as_bytes())
        {
            let text = text.clone();
            return Err(ProbeFailure::Body {
                asked,
                status,
                text,
            });
        }
        if is_doubtful && let Some(active) = self.answer_of_active(&asked).await {
            return Err(ProbeFailure::WorseThanActive {
                asked,
                status,
                active,
            });
        }
        Ok(asked.asked_as)
    }

    async fn check_grpc(
        &self,
        address: SocketAddr,
        stream: TcpStream,
        service: &str,
    ) -> Result<(), ProbeFailure> {
        let host = self.host_of(address);
        let mut request = grpc::request(host.to_str().unwrap_or("localhost"), service);
        self.add_fields(request.headers_mut());
        let answered = exchange(stream, AppProtocol::Http2, request, BodyUse::Read).await;
        let answered = answered.map_err(|source| ProbeFailure::NoGrpc { source })?;
        grpc::judge(&answered).map_err(|reason| ProbeFailure::Grpc {
            service: service.to_owned(),
            reason,
        })
    }

    /// Follows a redirect once, where it leads to another form of the same place.
    async fn follow(&self, address: SocketAddr, answer: Answer) -> Result<Answer, ProbeFailure> {
        let is_named = matches!(self.expected, ExpectedStatus::Named(_));
        let redirect = self.redirect(address, &answer);
        let is_https = redirect == Some(Redirect::ToHttps);
        let (path, asked_as) = match redirect {
            None => return Ok(answer),
            // Somebody expects just this redirect.
            Some(_) if is_named && !self.expected.contains(StatusCode::OK) => return Ok(answer),
            Some(Redirect::ToHttps) => (self.path.clone(), AskedAs::Https),
            Some(_) if is_named => return Ok(answer),
            Some(Redirect::SameHost { .. } | Redirect::Elsewhere)
                if self.expected == ExpectedStatus::Good =>
            {
                return Err(leads_elsewhere(answer));
            }
            Some(Redirect::SameHost {
                path,
                is_https: true,
            }) => (path, AskedAs::Https),
            Some(Redirect::SameHost { path, .. }) => (path, AskedAs::Http),
            Some(Redirect::Elsewhere) => return Ok(answer),
        };
        let protocol = answer.asked.protocol;
        let asked = Asked {
            path,
            asked_as,
            protocol,
        };
        let stream = reconnect(address).await?;
        let answer = self.get(address, stream, asked).await?;
        match self.redirect(address, &answer) {
            // Clients would be sent in a circle.
            Some(Redirect::ToHttps) if is_https && !is_named => Err(leads_elsewhere(answer)),
            Some(_) if self.expected == ExpectedStatus::Good => Err(leads_elsewhere(answer)),
            _ => Ok(answer),
        }
    }

    /// Returns the place to which an answer redirects.
    fn redirect(&self, address: SocketAddr, answer: &Answer) -> Option<Redirect> {
        if !answer.status.is_redirection() {
            return None;
        }
        Redirect::of(&answer.headers, &answer.asked.path, &self.host_of(address))
    }

    /// Returns the status of the active release's answer to the same request, if that one is good.
    async fn answer_of_active(&self, asked: &Asked) -> Option<StatusCode> {
        let active = self
            .active
            .filter(|_| self.expected == ExpectedStatus::AnyOfRoot)?;
        let stream = TcpStream::connect(active).await.ok()?;
        let answer = self.get(active, stream, asked.clone()).await.ok()?;
        (answer.status.as_u16() < 400).then_some(answer.status)
    }

    fn host_of(&self, address: SocketAddr) -> HeaderValue {
        let own = || HeaderValue::from_maybe_shared(Bytes::from(address.to_string())).ok();
        let host = self.host.clone().or_else(own);
        host.unwrap_or_else(|| HeaderValue::from_static("localhost"))
    }

    async fn get(
        &self,
        address: SocketAddr,
        stream: TcpStream,
        asked: Asked,
    ) -> Result<Answer, ProbeFailure> {
        let request = self.request(address, &asked);
        let body = match self.body {
            Some(_) => BodyUse::Read,
            None => BodyUse::Ignore,
        };
        let answered = exchange(stream, asked.protocol, request, body).await;
        match answered {
            Ok(Answered {
                status,
                headers,
                body,
                ..
            }) => Ok(Answer {
                asked,
                status,
                headers,
                body,
            }),
            Err(source) => Err(ProbeFailure::Http { asked, source }),
        }
    }

    fn request(&self, address: SocketAddr, asked: &Asked) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        let host = self.host_of(address);
        *request.uri_mut() = asked.path.clone().into();
        match asked.protocol {
            AppProtocol::Http1 => {
                let headers = request.headers_mut();
                headers.insert(header::HOST, host);
                headers.insert(header::CONNECTION, const { close() });
            }
            AppProtocol::Http2 => {
                let host = host.to_str().unwrap_or("localhost");
                let target = format!("http://{host}{}", asked.path);
                if let Ok(target) = target.parse() {
                    *request.uri_mut() = target;
                }
            }
        }
        let headers = request.headers_mut();
        if asked.asked_as == AskedAs::Https {
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        }
        self.add_fields(headers);
        request
    }

    fn add_fields(&self, headers: &mut HeaderMap) {
        headers.insert(header::USER_AGENT, const { user_agent() });
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}

fn leads_elsewhere(answer: Answer) -> ProbeFailure {
    let location = answer.headers.get(header::LOCATION);
    let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into());
    ProbeFailure::Redirect {
        asked: answer.asked,
        status: answer.status,
        location: location.unwrap_or_default(),
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|part| part == text)
}

async fn reconnect(address: SocketAddr) -> Result<TcpStream, ProbeFailure> {
    let port = address.port();
    let connected = TcpStream::connect(address).await;
    connected.map_err(|source| ProbeFailure::Connect { port, source })
}

const fn user_agent() -> HeaderValue {
    HeaderValue::from_static("handoff-readiness")
}

const fn close() -> HeaderValue {
    HeaderValue::from_static("close")
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
