//! The set of a message's fields that need work.

use http::HeaderMap;
use http::header::HeaderName;

use super::names;

/// The fields of a message that need work, as a set of bits.
///
/// Most messages have none or one of them, and one pass over the names costs less than a look-up in
/// the map for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFlags(u16);

// === impl HeaderFlags ===

impl HeaderFlags {
    /// `Connection`.
    pub const CONNECTION: u16 = 1;
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: u16 = 2;
    /// `TE`.
    pub const TE: u16 = 4;
    /// `Expect`.
    pub const EXPECT: u16 = 8;
    /// `Content-Length`.
    pub const CONTENT_LENGTH: u16 = 16;
    /// `Keep-Alive`.
    pub const KEEP_ALIVE: u16 = 32;
    /// The fields that describe the client.
    pub const FORWARDED: u16 = 64;
    /// The fields that name a user's token.
    pub const USER_TOKEN: u16 = 256;
    /// Credentials, or a demand for some.
    pub const CREDENTIALS: u16 = 512;
    /// Names with another character in the place of a hyphen.
    pub const ALIAS: u16 = 1024;
    /// `Upgrade`, `Proxy-Connection` and `HTTP2-Settings`.
    pub const OTHER_HOP_BY_HOP: u16 = 128;
    /// All fields of one connection.
    pub const HOP_BY_HOP: u16 =
        Self::CONNECTION | Self::TRANSFER_ENCODING | Self::KEEP_ALIVE | Self::OTHER_HOP_BY_HOP;

    /// Returns the set for these fields.
    pub fn scan(headers: &HeaderMap) -> Self {
        let mut flags = Self::default();
        for name in headers.keys() {
            flags.insert(name);
        }
        flags
    }

    /// Adds a field.
    pub fn insert(&mut self, name: &HeaderName) {
        self.0 |= match name.as_str() {
            "connection" => Self::CONNECTION,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "te" => Self::TE,
            "expect" => Self::EXPECT,
            "content-length" => Self::CONTENT_LENGTH,
            "keep-alive" => Self::KEEP_ALIVE,
            "x-iis-windowsauthtoken" | "ms-aspnetcore-winauthtoken" => Self::USER_TOKEN,
            "upgrade" | "proxy-connection" | "http2-settings" => Self::OTHER_HOP_BY_HOP,
            "authorization" | "proxy-authorization" | "www-authenticate" | "proxy-authenticate" => {
                Self::CREDENTIALS
            }
            other if !names::begins_as_own(other) => 0,
            other if names::is_forwarding(other) => Self::FORWARDED,
            other if names::may_be_alias(other) => Self::ALIAS,
            _ => 0,
        };
    }

    /// Returns `true` if the message has one of these fields.
    pub fn has_any(self, any_of: u16) -> bool {
        self.0 & any_of != 0
    }
}
