//! Users' Windows tokens, which IIS's modules name in a field of the request.

use std::fmt::Debug;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::router::Upstream;

/// A handler of users' tokens.
pub trait UserTokens: Debug + Send + Sync {
    /// Takes over the token that `value` names, if any. It is closed when the returned value is
    /// dropped.
    fn take(&self, value: &HeaderValue) -> Option<Box<dyn UserToken>>;
}

/// A token, held until its request has ended.
pub trait UserToken {
    /// Returns the name of the token in the app's process, if the app is to get it.
    fn for_app(&self, upstream: &Upstream) -> Option<HeaderValue>;
}

/// The tokens of one request, usually one.
pub(super) struct RequestTokens(Vec<(HeaderName, Box<dyn UserToken>)>);

/// The fields of HttpPlatformHandler and of ASP.NET Core's module. The app never gets them as they
/// came: a handle of this process names nothing in another.
pub(super) static TOKEN_FIELDS: [HeaderName; 2] = [
    HeaderName::from_static("x-iis-windowsauthtoken"),
    HeaderName::from_static("ms-aspnetcore-winauthtoken"),
];

// === impl RequestTokens ===

impl RequestTokens {
    /// Takes over the tokens that a request names.
    pub(super) fn take_from(
        headers: &HeaderMap,
        tokens: Option<&Arc<dyn UserTokens>>,
    ) -> Option<Box<Self>> {
        let tokens = tokens?;
        let named = TOKEN_FIELDS.iter().flat_map(|name| {
            let values = headers.get_all(name).iter();
            values.map(move |value| (name, value))
        });
        let taken: Vec<_> = named
            .filter_map(|(name, value)| Some((name.clone(), tokens.take(value)?)))
            .collect();
        (!taken.is_empty()).then(|| Box::new(Self(taken)))
    }

    /// Returns the fields that name the tokens in the app's process.
    pub(super) fn app_fields(
        &self,
        upstream: &Upstream,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.0
            .iter()
            .filter_map(|(name, token)| Some((name.clone(), token.for_app(upstream)?)))
    }
}
