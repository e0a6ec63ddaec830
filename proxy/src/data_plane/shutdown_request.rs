//! The platform's request to shut down.
//!
//! ASP.NET Core's module, and HttpPlatformHandler since version 2, send it before they send a console
//! event and, ten seconds later, end the process: `POST /iisintegration` below the application's
//! path, with the token that they put into the environment. It is the only polite word where there
//! is no console.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request};
use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;

const EVENT: &str = "ms-aspnetcore-event";
const SHUTDOWN: &[u8] = b"shutdown";
const TOKEN: &str = "ms-aspnetcore-token";

/// What the request looks like, and who wants to know of it.
#[derive(Clone)]
pub struct ShutdownRequest {
    path: Arc<str>,
    token: Arc<[u8]>,
    asked: Arc<Notify>,
}

// === impl ShutdownRequest ===

impl ShutdownRequest {
    /// For the application at this path, `/` as a rule, with this token.
    pub fn new(application_path: &str, token: &str) -> Self {
        let base = application_path.trim_end_matches('/');
        Self {
            path: format!("{base}/iisintegration").into(),
            token: token.as_bytes().into(),
            asked: Arc::default(),
        }
    }

    /// Completes when it has come. For one to wait.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Whether `request` is the one; then whoever waits is told.
    ///
    /// Whatever looks like it and has another token is a request like any other: a client cannot
    /// find out by it whether there is a token at all.
    pub(super) fn is<B>(&self, request: &Request<B>) -> bool {
        let is_it = *request.method() == Method::POST
            // IIS does not tell upper from lower case in paths.
            && request.uri().path().eq_ignore_ascii_case(&self.path)
            && self.is_authentic(request.headers());
        if is_it {
            self.asked.notify_one();
        }
        is_it
    }

    fn is_authentic(&self, headers: &HeaderMap) -> bool {
        let event = headers.get(EVENT).map(HeaderValue::as_bytes);
        let token = headers.get(TOKEN).map_or(&b""[..], HeaderValue::as_bytes);
        event.is_some_and(|event| event.eq_ignore_ascii_case(SHUTDOWN))
            // In constant time: how long it takes does not tell how much of a guess was right.
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
        assert!(expected.is(&request("POST", "/iisintegration", "shutdown", "secret")));
        let asked = tokio::time::timeout(Duration::from_secs(30), expected.asked()).await;
        asked.unwrap();
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
            assert!(!expected.is(&request), "{request:?}");
        }
        let bare = Request::post("/iisintegration").body(()).unwrap();
        assert!(!expected.is(&bare));
        let asked = tokio::time::timeout(Duration::ZERO, expected.asked()).await;
        assert!(asked.is_err(), "nobody has been told");
    }

    #[test]
    fn it_comes_below_the_applications_path() {
        for application in ["/shop", "/shop/"] {
            let expected = ShutdownRequest::new(application, "t");
            for path in ["/shop/iisintegration", "/Shop/IISIntegration"] {
                assert!(
                    expected.is(&request("POST", path, "shutdown", "t")),
                    "{path}"
                );
            }
            assert!(!expected.is(&request("POST", "/iisintegration", "shutdown", "t")));
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let shown = format!("{:?}", ShutdownRequest::new("/", "secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
