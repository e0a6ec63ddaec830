//! The key of a WebSocket's handshake over HTTP/1.1, and the answer to it (RFC 6455, section 4.2.2).
//!
//! HTTP/2 has neither: the one is made up for an app, the other for a client, that speaks HTTP/1.1.

use std::array;

use http::HeaderValue;
use sha1::{Digest as _, Sha1};

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

/// Returns the bytes in base64.
fn base64(bytes: &[u8]) -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            text.push(if digit <= three.len() {
                DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]
            } else {
                b'='
            });
        }
    }
    HeaderValue::from_bytes(&text).expect("base64 is ASCII")
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

    #[test]
    fn base64_is_filled_up() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
