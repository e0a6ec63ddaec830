//! `X-Request-ID`: the client's, or one of ours.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field.
pub(super) static NAME: HeaderName = HeaderName::from_static("x-request-id");
/// A longer one is not one that anybody reads.
const LONGEST: usize = 128;

/// A worker's source of ids.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    // The standard library's source of randomness, without a crate for it.
    random: [RandomState; 2],
    made: Cell<u64>,
}

// === impl RequestIds ===

impl RequestIds {
    /// What came with a request, if that is one id and harmless in a log; else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let mut came = headers.get_all(&NAME).iter();
        match (came.next(), came.next()) {
            (Some(id), None) if is_harmless(id.as_bytes()) => id.clone(),
            _ => self.new_one(),
        }
    }

    fn new_one(&self) -> HeaderValue {
        let number = self.made.get();
        self.made.set(number + 1);
        let [high, low] = self.random.each_ref().map(|random| random.hash_one(number));
        HeaderValue::try_from(format!("{high:016x}{low:016x}"))
            .unwrap_or_else(|_| HeaderValue::from(number))
    }
}

fn is_harmless(id: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_if_it_is_one_and_else_made_anew() {
        let ids = RequestIds::default();
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&NAME, value.parse().unwrap());
            }
            ids.of(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(of(&["7f3a-1"]), "7f3a-1");
        let long = "x".repeat(LONGEST + 1);
        for values in [&[][..], &["a", "b"], &["a b"], &[""], &["a\"b"], &[&long]] {
            let made = of(values);
            assert_eq!(made.len(), 32, "{values:?}: {made}");
        }
        assert_ne!(of(&[]), of(&[]));
    }
}
