//! Connections to one server process, kept for the next request.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub(super) type RequestBody = UnsyncBoxBody<Bytes, hyper::Error>;
pub(super) type SendError = hyper_util::client::legacy::Error;

/// Maximum time for the answer to a shutdown request.
const ASK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Upstream {
    port: u16,
    client: Client<HttpConnector, RequestBody>,
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(port: u16, resends: bool) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            // Whoever is behind it closes first, or nobody does.
            .pool_idle_timeout(None)
            .retry_canceled_requests(resends)
            .http1_preserve_header_case(true)
            .build(connector);
        Self { port, client }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Always to 127.0.0.1; `Host` stays as it came.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = self.uri(target);
        self.client.request(request).await
    }

    /// Sends a shutdown request; returns whether the answer was as it should be.
    pub(super) async fn ask_to_stop(&self, token: &str) -> bool {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::post(self.uri(Some(PathAndQuery::from_static("/iisintegration"))))
            .version(Version::HTTP_11)
            .header("MS-ASPNETCORE-EVENT", "shutdown")
            .header("MS-ASPNETCORE-TOKEN", token)
            .header("Content-Length", "0")
            .body(body);
        let Ok(request) = request else { return false };
        let answer = tokio::time::timeout(ASK, self.client.request(request)).await;
        answer
            .is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == StatusCode::ACCEPTED))
    }

    fn uri(&self, target: Option<PathAndQuery>) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        let authority = format!("127.0.0.1:{}", self.port);
        parts.authority = Authority::try_from(authority).ok();
        parts.path_and_query = target.or(Some(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).unwrap_or_default()
    }
}
