//! Which of the fields that need work a message has.

use http::HeaderMap;
use http::header::HeaderName;

/// Most messages have none or one of them, and one pass over the names costs less than asking the
/// map for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present(u16);

// === impl Present ===

impl Present {
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
    /// What is said of the client.
    pub const FORWARDED: u16 = 64;
    /// What names a user's token.
    pub const USER_TOKEN: u16 = 256;
    /// What else is meant for one connection only.
    pub const OTHER_OF_THE_CONNECTION: u16 = 128;
    /// Whatever is meant for one connection only.
    pub const ANY_OF_THE_CONNECTION: u16 = Self::CONNECTION
        | Self::TRANSFER_ENCODING
        | Self::KEEP_ALIVE
        | Self::OTHER_OF_THE_CONNECTION;

    /// Those among these fields.
    pub fn in_(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            present.note(name);
        }
        present
    }

    /// One more field.
    pub fn note(&mut self, name: &HeaderName) {
        self.0 |= match name.as_str() {
            "connection" => Self::CONNECTION,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "te" => Self::TE,
            "expect" => Self::EXPECT,
            "content-length" => Self::CONTENT_LENGTH,
            "keep-alive" => Self::KEEP_ALIVE,
            "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" => Self::FORWARDED,
            "x-iis-windowsauthtoken" | "ms-aspnetcore-winauthtoken" => Self::USER_TOKEN,
            "upgrade" | "proxy-connection" | "http2-settings" => Self::OTHER_OF_THE_CONNECTION,
            _ => 0,
        };
    }

    /// Whether one of these is there.
    pub fn has(self, any_of: u16) -> bool {
        self.0 & any_of != 0
    }
}
