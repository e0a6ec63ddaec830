//! The place that a redirect names.

use http::header::LOCATION;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue};

/// The place that a redirect names, as seen from the request that was answered with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The same path, by https.
    ToHttps,
    /// Another path of the same host.
    SameHost { path: PathAndQuery, is_https: bool },
    /// Another host, or a place that cannot be read.
    Elsewhere,
}

impl Redirect {
    /// Reads the `Location` field of an answer to a request for `path` with this `Host` field; `None`
    /// if it has none.
    pub(super) fn of(answer: &HeaderMap, path: &PathAndQuery, host: &HeaderValue) -> Option<Self> {
        let location = answer.get(LOCATION)?;
        let Some(target) = location.to_str().ok().and_then(|text| parse(text, path)) else {
            return Some(Self::Elsewhere);
        };
        let is_https = target.scheme_str() == Some("https");
        let to = target.path_and_query().cloned();
        let to = to.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if is_https && to == *path {
            return Some(Self::ToHttps);
        }
        let is_same_host = target.authority().is_none_or(|to| is_host(to, host));
        Some(if is_same_host {
            Self::SameHost { path: to, is_https }
        } else {
            Self::Elsewhere
        })
    }
}

/// Parses an absolute or relative reference (RFC 3986, section 4.2), without its fragment.
fn parse(location: &str, base: &PathAndQuery) -> Option<Uri> {
    let location = location.split('#').next()?;
    if location.contains("://") || location.starts_with('/') && !location.starts_with("//") {
        return location.parse().ok();
    }
    if let Some(authority) = location.strip_prefix("//") {
        return format!("http://{authority}").parse().ok();
    }
    let (folder, _) = base.path().rsplit_once('/')?;
    format!("{folder}/{location}").parse().ok()
}

/// Returns true if the authority names the host that was asked: an https port may differ.
fn is_host(authority: &Authority, host: &HeaderValue) -> bool {
    let asked = host.to_str().ok().and_then(|host| host.parse().ok());
    asked.is_some_and(|asked: Authority| asked.host().eq_ignore_ascii_case(authority.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(location: &str, path: &'static str) -> Option<Redirect> {
        let mut answer = HeaderMap::new();
        answer.insert(LOCATION, location.parse().unwrap());
        let host = HeaderValue::from_static("127.0.0.1:4000");
        Redirect::of(&answer, &PathAndQuery::from_static(path), &host)
    }

    fn same_host(path: &'static str, is_https: bool) -> Option<Redirect> {
        let path = PathAndQuery::from_static(path);
        Some(Redirect::SameHost { path, is_https })
    }

    #[test]
    fn the_same_path_by_https_is_told_from_all_else() {
        for location in [
            "https://127.0.0.1:4000/up?a=1",
            "https://example.org/up?a=1#x",
        ] {
            assert_eq!(
                of(location, "/up?a=1"),
                Some(Redirect::ToHttps),
                "{location}"
            );
        }
        assert_eq!(of("https://example.org", "/"), Some(Redirect::ToHttps));
        assert_eq!(of("/login?next=/", "/"), same_host("/login?next=/", false));
        assert_eq!(of("en/", "/a/b"), same_host("/a/en/", false));
        let https = of("https://127.0.0.1/login", "/");
        assert_eq!(https, same_host("/login", true));
        for location in [
            "http://example.org/up",
            "//example.org/up",
            "http://[",
            "ftp:///",
        ] {
            assert_eq!(of(location, "/up"), Some(Redirect::Elsewhere), "{location}");
        }
        let (none, path) = (HeaderMap::new(), PathAndQuery::from_static("/"));
        let host = HeaderValue::from_static("a");
        assert_eq!(Redirect::of(&none, &path, &host), None);
    }
}
