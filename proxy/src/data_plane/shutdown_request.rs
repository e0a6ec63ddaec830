//! The platform's request to shut down.
//!
//! ASP.NET Core's module, and HttpPlatformHandler since version 2, send it before they send a
//! console event and, ten seconds later, end the process: `POST /iisintegration` below the
//! application's path, with the token that they have put into the environment. Without a console it
//! is the only warning.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request};
use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;

const EVENT: &str = "ms-aspnetcore-event";
const SHUTDOWN: &[u8] = b"shutdown";
const TOKEN: &str = "ms-aspnetcore-token";

/// The request that the platform has announced, and a notification of its arrival.
#[derive(Clone)]
pub struct ShutdownRequest {
    path: Arc<str>,
    token: Arc<[u8]>,
    received: Arc<Notify>,
}

// === impl ShutdownRequest ===

impl ShutdownRequest {
    /// Returns the request for the application at this path, usually `/`, with this token.
    pub fn new(application_path: &str, token: &str) -> Self {
        let base = application_path.trim_end_matches('/');
        Self {
            path: format!("{base}/iisintegration").into(),
            token: token.as_bytes().into(),
            received: Arc::default(),
        }
    }

    /// Waits until the request has arrived. For one caller.
    pub async fn wait(&self) {
        self.received.notified().await;
    }

    /// Returns `true` if `request` is the platform's.
    ///
    /// One with another token is an ordinary request, so that a client cannot find out whether
    /// there is a token at all.
    pub(super) fn matches<B>(&self, request: &Request<B>) -> bool {
        *request.method() == Method::POST
            // IIS does not distinguish upper and lower case in paths.
            && request.uri().path().eq_ignore_ascii_case(&self.path)
            && self.is_authentic(request.headers())
    }

    /// Ends the wait in [`ShutdownRequest::wait`].
    pub(super) fn notify(&self) {
        self.received.notify_one();
    }

    fn is_authentic(&self, headers: &HeaderMap) -> bool {
        let event = headers.get(EVENT).map(HeaderValue::as_bytes);
        let token = headers.get(TOKEN).map_or(&b""[..], HeaderValue::as_bytes);
        event.is_some_and(|event| event.eq_ignore_ascii_case(SHUTDOWN))
            // In constant time: the duration does not reveal how much of a guess was right.
            && bool::from(self.token.ct_eq(token))
    }
}

impl fmt::Debug for ShutdownRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("ShutdownRequest")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(method: &str, path: &str, event: &str, token: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("MS-ASPNETCORE-EVENT", event);
        let request = request.header("MS-ASPNETCORE-TOKEN", token);
        request.body(()).unwrap()
    }

    #[tokio::test]
    async fn it_is_told_once_it_has_come() {
        let expected = ShutdownRequest::new("/", "secret");
        assert!(expected.matches(&request("POST", "/iisintegration", "shutdown", "secret")));
        expected.notify();
        let received = tokio::time::timeout(Duration::from_secs(30), expected.wait()).await;
        received.unwrap();
    }

    #[tokio::test]
    async fn everything_else_is_an_ordinary_request() {
        let expected = ShutdownRequest::new("/", "secret");
        for (method, path, event, token) in [
            ("GET", "/iisintegration", "shutdown", "secret"),
            ("POST", "/", "shutdown", "secret"),
            ("POST", "/x/iisintegration", "shutdown", "secret"),
            ("POST", "/iisintegration/", "shutdown", "secret"),
            ("POST", "/iisintegration", "start", "secret"),
            ("POST", "/iisintegration", "shutdown", "Secret"),
            ("POST", "/iisintegration", "shutdown", "secre"),
            ("POST", "/iisintegration", "shutdown", "secrets"),
            ("POST", "/iisintegration", "shutdown", ""),
        ] {
            let request = request(method, path, event, token);
            assert!(!expected.matches(&request), "{request:?}");
        }
        let bare = Request::post("/iisintegration").body(()).unwrap();
        assert!(!expected.matches(&bare));
        let received = tokio::time::timeout(Duration::ZERO, expected.wait()).await;
        assert!(received.is_err(), "nothing is reported");
    }

    #[test]
    fn it_comes_below_the_applications_path() {
        for application in ["/shop", "/shop/"] {
            let expected = ShutdownRequest::new(application, "t");
            for path in ["/shop/iisintegration", "/Shop/IISIntegration"] {
                assert!(
                    expected.matches(&request("POST", path, "shutdown", "t")),
                    "{path}"
                );
            }
            assert!(!expected.matches(&request("POST", "/iisintegration", "shutdown", "t")));
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let shown = format!("{:?}", ShutdownRequest::new("/", "secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
