//! Schemes that authenticate a connection instead of a request: NTLM and Negotiate (RFC 4559).

use http::HeaderMap;
use http::header;

use super::tokens;

/// The use of such a scheme in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionLogin {
    /// The scheme is named.
    Named,
    /// The scheme is named with data: the message is a step of a login.
    Step,
}

// === impl ConnectionLogin ===

impl ConnectionLogin {
    /// Finds such a scheme in a message's fields.
    pub fn find(headers: &HeaderMap) -> Option<Self> {
        let fields = [
            header::AUTHORIZATION,
            header::PROXY_AUTHORIZATION,
            header::WWW_AUTHENTICATE,
            header::PROXY_AUTHENTICATE,
        ];
        let values = fields.iter().flat_map(|name| headers.get_all(name));
        // A response may name several schemes in one field.
        values.flat_map(tokens).filter_map(Self::of_challenge).max()
    }

    fn of_challenge(challenge: &[u8]) -> Option<Self> {
        let mut words = challenge.split(|&byte| byte == b' ' || byte == b'\t');
        let scheme = words.next()?;
        // `Nego2` and others are versions of Negotiate.
        let is_negotiate = |start: &[u8]| start.eq_ignore_ascii_case(b"nego");
        if !scheme.eq_ignore_ascii_case(b"ntlm") && !scheme.get(..4).is_some_and(is_negotiate) {
            return None;
        }
        if words.any(|word| !word.is_empty()) {
            Some(Self::Step)
        } else {
            Some(Self::Named)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    fn find(name: &'static str, value: &'static str) -> Option<ConnectionLogin> {
        let field = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        ConnectionLogin::find(&HeaderMap::from_iter([field]))
    }

    #[test]
    fn ntlm_and_negotiate_are_found_wherever_they_are_named() {
        use ConnectionLogin::{Named, Step};
        assert_eq!(find("authorization", "NTLM TlRM"), Some(Step));
        assert_eq!(find("authorization", "negotiate\tYII="), Some(Step));
        assert_eq!(find("proxy-authorization", "Nego2 YII="), Some(Step));
        assert_eq!(find("www-authenticate", "ntlm"), Some(Named));
        assert_eq!(
            find("www-authenticate", "Basic realm=\"a\", Negotiate ,NTLM"),
            Some(Named)
        );
        assert_eq!(find("proxy-authenticate", "Negotiate YII="), Some(Step));
        assert_eq!(find("authorization", "Bearer NTLM"), None);
        assert_eq!(find("authorization", "NTLMv3 a"), None);
        assert_eq!(find("www-authenticate", "Basic realm=\"NTLM\""), None);
        assert_eq!(find("cookie", "NTLM"), None);
    }
}
