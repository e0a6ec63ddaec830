//! The user's Windows token, which IIS's modules name in a field of the request.

use std::fmt::Debug;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::router::Upstream;

/// Who knows what such a field names.
pub trait UserTokens: Debug + Send + Sync {
    /// Takes over the token that `value` names, if it names one: it ends with what is returned.
    fn take(&self, value: &HeaderValue) -> Option<Box<dyn UserToken>>;
}

/// A token, for as long as its request needs it.
pub trait UserToken {
    /// What names it to the app, if the app shall have it.
    fn for_app(&self, upstream: &Upstream) -> Option<HeaderValue>;
}

/// The tokens of one request: one, as a rule.
pub(super) struct Taken(Vec<(HeaderName, Box<dyn UserToken>)>);

/// HttpPlatformHandler's field, and that of ASP.NET Core's module. They never reach the app as they
/// came: what they name is nothing in its process.
pub(super) static FIELDS: [HeaderName; 2] = [
    HeaderName::from_static("x-iis-windowsauthtoken"),
    HeaderName::from_static("ms-aspnetcore-winauthtoken"),
];

// === impl Taken ===

impl Taken {
    /// Takes over what the fields of a request name.
    pub(super) fn from(headers: &HeaderMap, tokens: Option<&Arc<dyn UserTokens>>) -> Option<Self> {
        let tokens = tokens?;
        let named = FIELDS.iter().flat_map(|name| {
            let values = headers.get_all(name).iter();
            values.map(move |value| (name, value))
        });
        let taken: Vec<_> = named
            .filter_map(|(name, value)| Some((name.clone(), tokens.take(value)?)))
            .collect();
        (!taken.is_empty()).then_some(Self(taken))
    }

    /// What the app is told of them.
    pub(super) fn for_app(
        &self,
        upstream: &Upstream,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.0
            .iter()
            .filter_map(|(name, token)| Some((name.clone(), token.for_app(upstream)?)))
    }
}
