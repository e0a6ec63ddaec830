//! The address of a server, as a person writes it. Pure.

use std::str::FromStr;

use http::Uri;

use crate::generator::request::Destination;

/// `http://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    /// Name or address to look up, without brackets.
    pub host: String,
    pub port: u16,
    pub destination: Destination,
}

/// A reason for which a text is no such address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    #[error("{0}; write http://HOST[:PORT][/PATH]")]
    Invalid(String),
    #[error("it does not begin with http://; write http://HOST[:PORT][/PATH]")]
    NoScheme,
    #[error("{0} is not offered; name a port where the server speaks plain http")]
    OtherScheme(String),
    #[error("it has a user or password, which are not offered")]
    User,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text
            .parse()
            .map_err(|error: http::uri::InvalidUri| UrlError::Invalid(error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            None => return Err(UrlError::NoScheme),
            Some(other) => return Err(UrlError::OtherScheme(other.to_owned())),
        }
        let Some(authority) = uri.authority() else {
            return Err(UrlError::Invalid("it names no host".to_owned()));
        };
        if authority.as_str().contains('@') {
            return Err(UrlError::User);
        }
        let host = authority.host().trim_matches(['[', ']']);
        // The parser ignores a port that is no number.
        let rest = authority.as_str().rsplit(']').next().unwrap_or_default();
        let port = match (authority.port_u16(), rest.contains(':')) {
            (Some(port), _) => port,
            (None, false) => 80,
            (None, true) => {
                return Err(UrlError::Invalid(format!("{authority} has a wrong port")));
            }
        };
        if host.is_empty() || port == 0 {
            return Err(UrlError::Invalid(format!("{authority} is no server")));
        }
        let page = uri.path_and_query().map_or("/", |page| page.as_str());
        Ok(Self {
            host: host.to_owned(),
            port,
            destination: Destination {
                host: authority.as_str().to_owned(),
                page: page.to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_in_their_urls() {
        for (text, host, port, named, page) in [
            (
                "http://127.0.0.1:8080",
                "127.0.0.1",
                8080,
                "127.0.0.1:8080",
                "/",
            ),
            ("http://localhost/", "localhost", 80, "localhost", "/"),
            ("http://[::1]:81/a?b=c", "::1", 81, "[::1]:81", "/a?b=c"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!(
                (url.destination.host.as_str(), url.destination.page.as_str()),
                (named, page)
            );
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused_with_what_to_write() {
        for (text, said) in [
            ("127.0.0.1:8080", "http://HOST"),
            ("/path", "http://HOST"),
            ("https://example.org", "https is not offered"),
            ("http://me:secret@example.org", "user or password"),
            ("http://", "http://HOST"),
            ("http://example.org:99999", "http://HOST"),
            ("http://example.org:0", "http://HOST"),
            ("", "http://HOST"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
