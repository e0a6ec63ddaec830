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

    /// Number of bytes of a session as it is written.
    pub const LENGTH: usize = 16 + 1 + 8;

    /// Reads a session that a cookie's value starts with; others may follow behind `;`.
    pub fn parse_start(text: &[u8]) -> Option<Self> {
        let (token, rest) = text.split_first_chunk::<16>()?;
        let (client, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<8>()?;
        let is_end = matches!(rest.trim_ascii_start().first(), None | Some(b';'));
        let session = Self {
            token: SessionToken(hex(token)?),
            client: hex(client)?.try_into().ok()?,
        };
        is_end.then_some(session)
    }
}

/// The value of each hexadecimal digit, as it is written here, and [`NO_DIGIT`] for all other bytes.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = 16;

/// Reads up to sixteen hexadecimal digits. The library's functions, which take every radix, cost
/// several times as much.
fn hex<const N: usize>(digits: &[u8; N]) -> Option<u64> {
    let (mut number, mut all) = (0, 0);
    for digit in digits {
        let value = DIGITS[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value);
    }
    (all < NO_DIGIT).then_some(number)
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
            Session::parse_start(session.to_string().as_bytes()),
            Some(session)
        );
        for bad in [
            "",
            "-",
            "0123456789abcdef",
            "0123456789abcdef-0123456",
            "0123456789abcdef-012345678",
            "+123456789abcdef-01234567",
            "0123456789ABCDEF-01234567",
            "0123456789abcdef-0123456é",
            "0123456789abcdef-01234567 8",
        ] {
            assert_eq!(Session::parse_start(bad.as_bytes()), None, "{bad}");
        }
    }
}
