//! The key of a WebSocket's handshake over HTTP/1.1, and the answer to it (RFC 6455, section 4.2.2).
//!
//! HTTP/2 has neither: the one is made up for an app, the other for a client, that speaks HTTP/1.1.

use std::array;

use http::HeaderValue;
use sha1::{Digest as _, Sha1};

use super::base64;

/// The bytes that are hashed behind a key.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Returns a new key: 16 random bytes.
pub(super) fn random_key() -> HeaderValue {
    let bytes: [u8; 16] = array::from_fn(|_| fastrand::u8(..));
    base64(&bytes)
}

/// Returns the answer to a key.
pub(super) fn answer_to(key: &HeaderValue) -> HeaderValue {
    let hash = Sha1::new().chain_update(key.as_bytes());
    base64(&hash.chain_update(SUFFIX).finalize())
}

fn base64(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&base64::encode(bytes)).expect("base64 is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        // The example of RFC 6455, section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer_to(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(base64(b"the sample nonce"), key);
        assert_eq!(random_key().len(), 24);
        assert_ne!(random_key(), random_key());
    }
}
