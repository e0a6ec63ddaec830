//! The `X-Request-ID` field: the client's id, or a new one.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field.
pub(super) static NAME: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a client's id, in bytes.
const LONGEST: usize = 128;

/// A worker's source of ids.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    random: RefCell<fastrand::Rng>,
}

// === impl RequestIds ===

impl RequestIds {
    /// Returns the id that came with the request if there is exactly one, harmless in a log;
    /// otherwise a new one.
    pub(super) fn get_or_create(&self, headers: &HeaderMap) -> HeaderValue {
        let mut came = headers.get_all(&NAME).iter();
        match (came.next(), came.next()) {
            (Some(id), None) if is_valid(id.as_bytes()) => id.clone(),
            _ => self.create(),
        }
    }

    fn create(&self) -> HeaderValue {
        let id = self.random.borrow_mut().u128(..);
        HeaderValue::try_from(format!("{id:032x}")).unwrap_or_else(|_| HeaderValue::from(id as u64))
    }
}

fn is_valid(id: &[u8]) -> bool {
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
            ids.get_or_create(&headers).to_str().unwrap().to_owned()
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
