//! The requests of checks, and the answers that are good.

use std::fmt;
use std::ops::RangeInclusive;

use http::StatusCode;
use http::uri::PathAndQuery;

use crate::router::AppProtocol;

/// The status codes that count as success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// The codes that a person has named.
    Named(RangeInclusive<u16>),
    /// Any answer below 500: at `/` most apps answer something, if only a redirect or a login.
    AnyOfRoot,
    /// 200 to 399, and no redirect to another place.
    Good,
}

/// The scheme that a request says its client has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedAs {
    /// Plain HTTP: nothing is said.
    Http,
    /// HTTPS, by `X-Forwarded-Proto`: the app redirects everything else there.
    Https,
}

/// A request that was sent.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) path: PathAndQuery,
    pub(super) asked_as: AskedAs,
    pub(super) protocol: AppProtocol,
}

// === impl ExpectedStatus ===

impl ExpectedStatus {
    fn range(&self) -> RangeInclusive<u16> {
        match self {
            Self::Named(range) => range.clone(),
            Self::AnyOfRoot => 200..=499,
            Self::Good => 200..=399,
        }
    }

    pub(super) fn contains(&self, status: StatusCode) -> bool {
        self.range().contains(&status.as_u16())
    }
}

impl fmt::Display for ExpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range();
        write!(f, "{} to {}", range.start(), range.end())
    }
}

// === impl Asked ===

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {}", self.path)?;
        if self.protocol == AppProtocol::Http2 {
            f.write_str(", over HTTP/2,")?;
        }
        match self.asked_as {
            AskedAs::Http => Ok(()),
            AskedAs::Https => write!(f, ", asked as https,"),
        }
    }
}
