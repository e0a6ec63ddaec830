//! The fields by which testers reach a staged release: its token, and for a canary `--canary-header`.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use subtle::ConstantTimeEq as _;

use super::headers::{is_alias, is_own};

/// Field of a request that is for the staged release: its token.
pub(super) const PREVIEW: HeaderName = HeaderName::from_static("x-handoff-preview");

/// Fields that say something to handoff or to each hop, beside those of handoff's own.
const TAKEN: [HeaderName; 8] = [
    header::CONNECTION,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    PREVIEW,
];

/// A field and its value, which the requests of testers carry.
#[derive(Clone, Debug)]
pub struct TesterField {
    name: HeaderName,
    value: HeaderValue,
}

// === impl TesterField ===

impl TesterField {
    /// Returns `true` if the field is there, once and with exactly this value. Proxies may join two
    /// fields of one name, so that two are another value.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(&self.name).iter();
        match (fields.next(), fields.next()) {
            (Some(field), None) => field.as_bytes().ct_eq(self.value.as_bytes()).into(),
            _ => false,
        }
    }
}

impl FromStr for TesterField {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected NAME=VALUE, the name and the exact value of a field that only \
                                testers send, such as X-Canary=team-a; in ASCII, without blanks at the \
                                ends";
        let (name, value) = text.split_once('=').ok_or(EXPECTED)?;
        let name: HeaderName = name.parse().map_err(|_| EXPECTED)?;
        if TAKEN.contains(&name) || is_own(name.as_str()) || is_alias(name.as_str()) {
            return Err(
                "expected a field of your own: this one is used by HTTP or by handoff itself",
            );
        }
        let is_exact = !value.is_empty() && value.is_ascii() && value.trim() == value;
        let value = value.parse().ok().filter(|_| is_exact).ok_or(EXPECTED)?;
        Ok(Self { name, value })
    }
}

impl fmt::Display for TesterField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.to_str().unwrap_or_default();
        write!(f, "{}={value}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TesterField, &'static str> {
        text.parse()
    }

    #[test]
    fn only_one_field_with_exactly_this_value_is_a_testers() {
        let field = parse("X-Canary=team=a").unwrap();
        let is_testers = |values: &[&str]| {
            let fields = values.iter().map(|value| {
                let name = HeaderName::from_static("x-canary");
                (name, value.parse().unwrap())
            });
            field.is_in(&fields.collect())
        };
        assert!(is_testers(&["team=a"]));
        for others in [
            &[][..],
            &[""],
            &["team"],
            &["Team=a"],
            &["team=a "],
            &["team=a, b"],
            &["xteam=a"],
            &["team=ab"],
            &["team=a", "b"],
            &["team=a", "team=a"],
        ] {
            assert!(!is_testers(others), "{others:?}");
        }
        let other = HeaderMap::from_iter([(header::ACCEPT, "team=a".parse().unwrap())]);
        assert!(!field.is_in(&other));
    }

    #[test]
    fn a_field_has_a_name_and_a_value() {
        for good in ["X-Canary=1", "x_canary=a=b, c", "User-Agent=Probe/1.0 (x)"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "X-Canary",
            "X-Canary=",
            "=1",
            "X Canary=1",
            "X-Canary =1",
            "X-Canary= 1",
            "X-Canary=1 ",
            "X-Canary: 1",
            "X-Canary=\n1",
            "X-Canary=\u{e4}",
            ":path=/",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.starts_with("expected NAME=VALUE"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_field_that_has_a_meaning_already_is_refused() {
        for name in [
            "Connection",
            "Content-Length",
            "Content_Length",
            "Cookie",
            "Expect",
            "Host",
            "HTTP2-Settings",
            "Keep-Alive",
            "Max-Forwards",
            "Proxy-Authorization",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "X-Forwarded-For",
            "X_Forwarded_Proto",
            "X-Handoff-Preview",
            "X-Real-IP",
            "X-Request-ID",
        ] {
            let error = parse(&format!("{name}=1")).unwrap_err();
            assert!(error.contains("a field of your own"), "{name}: {error}");
        }
    }
}
