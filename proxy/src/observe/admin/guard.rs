//! Check of the origin of requests.
//!
//! Any page that is open in a browser on this machine can request `http://127.0.0.1:…`, and one whose
//! name resolves to 127.0.0.1 at the second look-up (DNS rebinding) could read the response. The
//! first sends an `Origin` or `Sec-Fetch-Site` of another site, the second its own name as `Host`.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuardError {
    #[error("this is read only: GET or HEAD")]
    Method,
    #[error("only requests to localhost, 127.0.0.1 or [::1] are answered here")]
    Host,
    #[error("other sites may not read this")]
    OtherSite,
}

// === impl GuardError ===

impl GuardError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherSite => StatusCode::FORBIDDEN,
        }
    }
}

/// Accepts requests to read, of users and programs of this machine.
///
/// # Errors
/// [`GuardError`] for all others.
pub(super) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), GuardError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(GuardError::Method);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let authority = uri.authority().is_none_or(|it| is_loopback(it.as_str()));
    if !host.is_some_and(is_loopback) || hosts.next().is_some() || !authority {
        return Err(GuardError::Host);
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_another = |site: &HeaderValue| !matches!(site.as_bytes(), b"same-origin" | b"none");
    // A link on another site leads here, but that site does not get the response.
    let follows_a_link =
        text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
    let is_another_site =
        headers.get_all("sec-fetch-site").iter().any(is_another) && !follows_a_link;
    let origin = text(header::ORIGIN.as_str());
    let is_another_origin = origin.is_some_and(|origin| origin.strip_prefix("http://") != host);
    if is_another_site || is_another_origin {
        return Err(GuardError::OtherSite);
    }
    Ok(())
}

/// Returns whether a `Host` can only mean this machine. Its port may be that of a tunnel.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => (&host[..colon], &host[colon + 1..]),
        _ => (host, ""),
    };
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let is_address = match bracketed {
        Some(address) => address.parse() == Ok(Ipv6Addr::LOCALHOST),
        None => matches!(name.parse(), Ok(IpAddr::V4(address)) if address.is_loopback()),
    };
    port.bytes().all(|byte| byte.is_ascii_digit())
        && (is_address || name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Result<(), GuardError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        check(&method.parse().unwrap(), &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn only_what_is_addressed_to_this_machine_is_answered() {
        for host in [
            "127.0.0.1:9900",
            "localhost",
            "LocalHost:80",
            "[::1]:9900",
            "[::1]",
            "127.1.2.3",
        ] {
            assert_eq!(checked("GET", "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9900",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "localhost:80@evil",
            "",
            ":9900",
        ] {
            let error = checked("GET", "/", &[("host", host)]);
            assert_eq!(error, Err(GuardError::Host), "{host:?}");
        }
        assert_eq!(checked("GET", "/", &[]), Err(GuardError::Host));
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(checked("GET", "/", &two), Err(GuardError::Host));
        let one = [("host", "localhost")];
        let absolute = checked("GET", "http://evil.example/", &one);
        assert_eq!(absolute, Err(GuardError::Host));
    }

    #[test]
    fn nothing_can_be_changed() {
        let host = [("host", "localhost")];
        assert_eq!(checked("HEAD", "/", &host), Ok(()));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            assert_eq!(checked(method, "/", &host), Err(GuardError::Method));
        }
    }

    #[test]
    fn other_sites_get_nothing() {
        let with = |fields: &[(&'static str, &str)]| {
            let host = [("host", "localhost:9900")];
            checked("GET", "/events", &[&host, fields].concat())
        };
        assert_eq!(with(&[("origin", "http://localhost:9900")]), Ok(()));
        assert_eq!(with(&[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(with(&[("sec-fetch-site", "none")]), Ok(()));
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(with(&link), Ok(()));
        for fields in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            // Another port is another origin.
            &[("origin", "http://localhost:3000")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "no-cors"),
            ],
            &[("sec-fetch-site", "same-site")],
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe"),
            ],
        ] {
            assert_eq!(with(fields), Err(GuardError::OtherSite), "{fields:?}");
        }
    }
}
