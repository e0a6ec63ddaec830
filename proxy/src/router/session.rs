//! The names of sessions: what a client's cookie says.

use std::fmt;

/// The name of one generation in the cookies of clients: random, as it tells nothing and cannot be
/// guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionToken(u64);

/// A client's session, as its cookie describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The generation at which it began.
    pub token: SessionToken,
    /// A random number of the client, by which it is counted once.
    pub client: u32,
}

// === impl SessionToken ===

impl SessionToken {
    /// Returns a token that no other generation has.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

// === impl Session ===

impl Session {
    /// Returns a new session of a new client.
    pub fn new(token: SessionToken) -> Self {
        Self {
            token,
            client: fastrand::u32(..),
        }
    }

    /// Reads a session as it is written.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (token, client) = text.split_once('-')?;
        let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        (token.len() == 16 && client.len() == 8 && is_hex(token) && is_hex(client)).then_some(())?;
        Some(Self {
            token: SessionToken(u64::from_str_radix(token, 16).ok()?),
            client: u32::from_str_radix(client, 16).ok()?,
        })
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}", self.token.0, self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_as_it_is_written_and_nothing_else_is_one() {
        let session = Session::new(SessionToken::random());
        assert_eq!(
            Session::parse(session.to_string().as_bytes()),
            Some(session)
        );
        for bad in [
            "",
            "-",
            "0123456789abcdef",
            "0123456789abcdef-0123456",
            "0123456789abcdef-012345678",
            "+123456789abcdef-01234567",
            "0123456789abcdef-0123456é",
        ] {
            assert_eq!(Session::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
