//! The cookie by which a client's requests find the release on which its session began: `--sticky`.

use std::ops::Range;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request};
use memchr::memmem::Finder;

use crate::release::Generation;
use crate::router::{Router, Session};

/// A response with one of these may be kept for other clients, who would get the cookie with it.
const SHARED: [&str; 3] = ["public", "s-maxage", "immutable"];

/// The cookie of sessions. The app never sees it.
#[derive(Clone, Debug)]
pub struct SessionCookie {
    name: Arc<str>,
    /// Search for the name; to prepare it takes longer than to search.
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
            search: Arc::new(Finder::new(name).into_owned()),
        })
    }

    /// Returns `true` if the request may belong to a session. What handoff answers itself does not.
    pub(super) fn concerns<B>(request: &Request<B>) -> bool {
        request.method() != Method::CONNECT && !request.headers().contains_key(header::MAX_FORWARDS)
    }

    /// Removes the cookie from a request, and returns the session that it names.
    pub(super) fn take_from(&self, headers: &mut HeaderMap) -> Option<Session> {
        let mut values = headers.get_all(header::COOKIE).iter();
        if !values.any(|value| self.place_in(value.as_bytes()).is_some()) {
            return None;
        }
        let mut session = None;
        let mut kept = Vec::new();
        for value in headers.get_all(header::COOKIE) {
            let mut rest = value.as_bytes().to_vec();
            while let Some(place) = self.place_in(&rest) {
                let text = rest[place.start + self.name.len() + 1..place.end].trim_ascii();
                session = session.or_else(|| Session::parse(text));
                let next = &rest[place.end..];
                let is_gap = |byte: &u8| *byte != b';' && *byte != b' ';
                let gap = next.iter().position(is_gap).unwrap_or(next.len());
                rest.drain(place.start..place.end + gap);
            }
            let end = rest.trim_ascii_end();
            let end = end.strip_suffix(b";").unwrap_or(end);
            if !end.is_empty() {
                kept.extend(HeaderValue::from_bytes(end));
            }
        }
        headers.remove(header::COOKIE);
        for value in kept {
            headers.append(header::COOKIE, value);
        }
        session
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

    /// Returns the place of the cookie's `NAME=VALUE` among others. Cookies can be long, and most of
    /// their bytes are not looked at one by one.
    fn place_in(&self, cookies: &[u8]) -> Option<Range<usize>> {
        let name = self.name.as_bytes();
        self.search.find_iter(cookies).find_map(|start| {
            let before = cookies[..start].trim_ascii_end();
            let value = &cookies[start + name.len()..];
            let is_name = (before.is_empty() || before.ends_with(b";")) && value.starts_with(b"=");
            let length = memchr::memchr(b';', value).unwrap_or(value.len());
            is_name.then(|| start..start + name.len() + length)
        })
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

    fn taken(cookies: &[&str]) -> (bool, Vec<String>) {
        let cookie = SessionCookie::new("handoff").unwrap();
        let mut headers = HeaderMap::new();
        for value in cookies {
            headers.append(header::COOKIE, value.parse().unwrap());
        }
        let session = cookie.take_from(&mut headers);
        let kept = headers.get_all(header::COOKIE).iter();
        let kept = kept.map(|value| value.to_str().unwrap().to_owned());
        (session.is_some(), kept.collect())
    }

    #[test]
    fn the_cookie_is_taken_out_and_all_others_stay_as_they_are() {
        const OURS: &str = "handoff=0123456789abcdef-01234567";
        let kept = |cookies: &[&str]| cookies.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        for (cookies, has_session, left) in [
            (vec![OURS.to_owned()], true, kept(&[])),
            (vec![format!("a=1; {OURS}; b=2")], true, kept(&["a=1; b=2"])),
            (
                vec![format!("{OURS};b=\"x y\"")],
                true,
                kept(&["b=\"x y\""]),
            ),
            (
                vec!["a=1".into(), OURS.into(), "b=2".into()],
                true,
                kept(&["a=1", "b=2"]),
            ),
            (vec!["a=1; handoff=forged".into()], false, kept(&["a=1"])),
            (
                vec!["a=1;  b=2; handoffs=3".into()],
                false,
                kept(&["a=1;  b=2; handoffs=3"]),
            ),
            (
                vec!["ahandoff=1; handoff".into()],
                false,
                kept(&["ahandoff=1; handoff"]),
            ),
            (vec![], false, kept(&[])),
        ] {
            let cookies: Vec<_> = cookies.iter().map(String::as_str).collect();
            assert_eq!(taken(&cookies), (has_session, left), "{cookies:?}");
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
