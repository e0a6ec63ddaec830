//! The cookie by which a client's requests find the release on which its session began: `--sticky`.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request};
use memchr::memmem::Finder;

use super::headers::remaining_forwards;
use crate::release::Generation;
use crate::router::{Router, Session};

/// A response with one of these may be kept for other clients, who would get the cookie with it.
const SHARED: [&str; 3] = ["public", "s-maxage", "immutable"];

/// The cookie of sessions. It goes on to the app: to take it out of a field costs more than all that
/// is done with it.
#[derive(Clone, Debug)]
pub struct SessionCookie {
    name: Arc<str>,
    /// Search for `NAME=`; to prepare it takes longer than to search.
    search: Arc<Finder<'static>>,
}

// === impl SessionCookie ===

impl SessionCookie {
    /// Returns the cookie of this name; `None` if that is no name of a cookie (RFC 6265,
    /// section 4.1.1).
    pub fn new(name: &str) -> Option<Self> {
        let is_allowed =
            |byte: u8| byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?={}"#.contains(&byte);
        (!name.is_empty() && name.bytes().all(is_allowed)).then(|| Self {
            name: name.into(),
            search: Arc::new(Finder::new(&format!("{name}=")).into_owned()),
        })
    }

    /// Returns `true` if the request may belong to a session. What handoff answers itself does not.
    pub(super) fn concerns<B>(request: &Request<B>) -> bool {
        let method = request.method();
        *method != Method::CONNECT && remaining_forwards(method, request.headers()).is_none()
    }

    /// Returns the session that a request names: any one, as clients can write more.
    pub(super) fn session_of(&self, headers: &HeaderMap) -> Option<Session> {
        let mut fields = headers.get_all(header::COOKIE).iter();
        fields.find_map(|field| self.session_in(field.as_bytes()))
    }

    /// Cookies can be long, and most of their bytes are not looked at one by one.
    fn session_in(&self, cookies: &[u8]) -> Option<Session> {
        let name = self.search.needle();
        // Browsers send new cookies behind older ones.
        let last = cookies.len().checked_sub(name.len() + Session::LENGTH);
        let last = last.filter(|start| cookies[*start..].starts_with(name));
        let all = self.search.find_iter(cookies);
        last.into_iter().chain(all).find_map(|start| {
            let before = cookies[..start].trim_ascii_end();
            let value = &cookies[start + name.len()..];
            let is_name = before.is_empty() || before.ends_with(b";");
            is_name.then(|| Session::parse_start(value)).flatten()
        })
    }

    /// Sets the cookie in a response of this generation, unless the client has it already.
    pub(super) fn set_in(
        &self,
        headers: &mut HeaderMap,
        session: Option<Session>,
        (router, generation): (&Router, Option<Generation>),
        is_secure: bool,
    ) {
        let token = generation.and_then(|generation| router.begin_session(generation));
        let Some(token) = token.filter(|token| session.map(|it| it.token) != Some(*token)) else {
            return;
        };
        if is_shared(headers) {
            return;
        }
        let session =
            session.map_or_else(|| Session::new(token), |before| Session { token, ..before });
        let secure = if is_secure { "; Secure" } else { "" };
        let name = &self.name;
        let cookie = format!("{name}={session}; Path=/; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

fn is_shared(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = values.filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(','));
    directives.any(|directive| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        SHARED
            .iter()
            .any(|shared| name.eq_ignore_ascii_case(shared))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_among_other_cookies() {
        const OURS: &str = "handoff=0123456789abcdef-01234567";
        let cookie = SessionCookie::new("handoff").unwrap();
        let has_session = |fields: &[String]| {
            let fields = fields
                .iter()
                .map(|it| (header::COOKIE, it.parse().unwrap()));
            cookie.session_of(&fields.collect()).is_some()
        };
        for fields in [
            vec![OURS.to_owned()],
            vec![format!("{OURS}; a=1; b=2")],
            vec![format!("a=1; b=2;{OURS}")],
            vec![format!("a=1; {OURS} ; b=2")],
            vec![format!("{OURS};b=\"x y\"")],
            vec![format!("handoff=forged; {OURS}")],
            vec![format!("xhandoff=1; {OURS}")],
            vec!["a=1".into(), OURS.into(), "b=2".into()],
        ] {
            assert!(has_session(&fields), "{fields:?}");
        }
        for fields in [
            vec![],
            vec!["a=1".into(), "b=2".into()],
            vec!["a=1; handoff=forged".into()],
            vec!["handoff=".into()],
            vec![format!("{OURS}0")],
            vec![format!("{OURS} 0")],
            vec![format!("x{OURS}")],
            vec![format!("a={OURS}")],
            vec![format!("a=1, {OURS}")],
            vec!["a=1;  b=2; handoffs=3; handoff".into()],
        ] {
            assert!(!has_session(&fields), "{fields:?}");
        }
    }

    #[test]
    fn a_response_for_everybody_gets_no_cookie() {
        let shared = |value: &str| {
            let value = value.parse().unwrap();
            is_shared(&HeaderMap::from_iter([(header::CACHE_CONTROL, value)]))
        };
        for value in [
            "public",
            "max-age=60, Public",
            "s-maxage=1",
            "max-age=1, immutable",
        ] {
            assert!(shared(value), "{value}");
        }
        for value in ["private", "no-store", "max-age=60", "publicly"] {
            assert!(!shared(value), "{value}");
        }
    }

    #[test]
    fn a_name_has_only_the_characters_of_a_token() {
        assert!(SessionCookie::new("__Host-handoff").is_some());
        for bad in ["", "a b", "a=b", "a;b", "ä"] {
            assert!(SessionCookie::new(bad).is_none(), "{bad}");
        }
    }
}
