//! The parser of a response's head.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use smallvec::SmallVec;

use super::version::lower_response_version;
use super::{HeaderFlags, Malformed};

/// Maximum number of fields.
const MAX_FIELDS: usize = 256;
/// Maximum size of a head in bytes, the same as HttpPlatformHandler's.
const MAX_BYTES: usize = 64 * 1024;

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase, if it is not the usual one.
    pub reason: Option<hyper::ext::ReasonPhrase>,
    /// The version: 1.0 or 1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The fields that need work.
    pub flags: HeaderFlags,
    /// The length that the fields state, in bytes. A transfer coding takes precedence over it.
    pub content_length: Option<u64>,
}

/// The position of a field in the buffer, in bytes.
#[derive(Clone, Copy)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// Takes the head of a response from the received bytes, once it is complete.
///
/// `headers` is an empty map for the fields: a used one saves an allocation.
///
/// # Errors
/// Returns [`Malformed`] if no head can begin like this.
pub fn read_head(
    received: &mut BytesMut,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, Malformed> {
    if received.is_empty() {
        return Ok(None);
    }
    lower_response_version(received);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        received,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if received.len() < MAX_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed::HeadTooLarge);
        }
        Err(_) => return Err(Malformed::Head),
    };
    let code = response.code.ok_or(Malformed::Head)?;
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::Head)?;
    let version = match response.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let reason = response
        .reason
        .filter(|reason| status.canonical_reason() != Some(reason))
        .and_then(|reason| hyper::ext::ReasonPhrase::try_from(reason.as_bytes()).ok());
    let base = received.as_ptr().addr();
    let place = |slice: &[u8]| {
        let start = slice.as_ptr().addr() - base;
        (start as u32, (start + slice.len()) as u32)
    };
    let mut places = SmallVec::<[Field; 16]>::new();
    places.extend(response.headers.iter().map(|field| Field {
        name: place(field.name.as_bytes()),
        value: place(field.value),
    }));
    // Values share the buffer instead of copying.
    let bytes = received.split_to(length).freeze();
    let range = |(start, end): (u32, u32)| start as usize..end as usize;
    let mut headers = std::mem::take(headers);
    // At once, instead of step by step.
    headers.reserve(places.len());
    let mut flags = HeaderFlags::default();
    for Field { name, value } in &places {
        let name = HeaderName::from_bytes(&bytes[range(*name)]).map_err(|_| Malformed::Head)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(range(*value)))
            .map_err(|_| Malformed::Head)?;
        flags.insert(&name);
        headers.append(name, value);
    }
    let content_length = merge_lengths(&mut headers, flags)?;
    Ok(Some(Head {
        status,
        reason,
        version,
        headers,
        flags,
        content_length,
    }))
}

/// Returns the length that the fields state, and leaves one field that states it once: hyper passes
/// `Content-Length: 5, 5` on, and does not check it at all where there is no body.
///
/// # Errors
/// Returns [`Malformed::Length`] if the fields do not agree on a number (RFC 9112, section 6.3).
pub fn merge_lengths(
    headers: &mut HeaderMap,
    flags: HeaderFlags,
) -> Result<Option<u64>, Malformed> {
    // Beside a transfer coding the field counts for nothing, and is removed.
    if !flags.has_any(HeaderFlags::CONTENT_LENGTH) || flags.has_any(HeaderFlags::TRANSFER_ENCODING)
    {
        return Ok(None);
    }
    let mut length = None;
    let mut is_plain = true;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for part in value.as_bytes().split(|&byte| byte == b',') {
            let digits = part.trim_ascii();
            let number = parse_length(digits).ok_or(Malformed::Length)?;
            is_plain = length.is_none() && digits.len() == value.len();
            if *length.get_or_insert(number) != number {
                return Err(Malformed::Length);
            }
        }
    }
    if let (false, Some(length)) = (is_plain, length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// Parses digits only: the parser of numbers also accepts `+5`.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

impl Head {
    /// Returns `true` if the connection may serve another request after this response (RFC 9112,
    /// section 9.3).
    pub fn keeps_alive(&self) -> bool {
        let says = |word: &str| {
            let values = self.headers.get_all(header::CONNECTION).iter();
            let mut words = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
            words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        match self.version {
            Version::HTTP_10 => says("keep-alive"),
            _ => !self.flags.has_any(HeaderFlags::CONNECTION) || !says("close"),
        }
    }

    /// Returns `true` for an interim response: the final one is still to come.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<(Head, Vec<u8>)>, Malformed> {
        let mut received = BytesMut::from(bytes);
        let head = read_head(&mut received, &mut HeaderMap::new())?;
        Ok(head.map(|head| (head, received.to_vec())))
    }

    #[test]
    fn a_head_is_taken_and_what_follows_stays() {
        let bytes = b"HTTP/1.1 200 Fine\r\nA: 1\r\na:  2 \r\nServer: \xff\r\n\r\nbody";
        let (head, rest) = read(bytes).unwrap().unwrap();
        assert_eq!(rest, b"body");
        assert_eq!(head.reason.as_ref().unwrap().as_bytes(), b"Fine");
        let values: Vec<_> = head.headers.get_all("a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(head.headers["server"].as_bytes(), b"\xff");
        for end in 0..bytes.len() - 4 {
            assert!(read(&bytes[..end]).unwrap().is_none(), "at {end}");
        }
    }

    #[test]
    fn a_length_is_stated_once_and_is_a_number() {
        let lengths = |fields: &str| {
            let head = format!("HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n");
            let (head, _) = read(head.as_bytes())?.unwrap();
            let stated = head.headers.get_all(header::CONTENT_LENGTH).iter();
            let stated: Vec<_> = stated
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            Ok((head.content_length, stated.join(" and ")))
        };
        let once = |length, field: &str| Ok((length, field.to_owned()));
        assert_eq!(lengths("content-length: 5"), once(Some(5), "5"));
        let twice = "content-length: 5\r\ncontent-length: 5, 5";
        assert_eq!(lengths(twice), once(Some(5), "5"));
        let beside_coding = "content-length: 5, x\r\ntransfer-encoding: chunked";
        assert_eq!(lengths(beside_coding), once(None, "5, x"));
        for bad in [
            "5\r\ncontent-length: 6",
            "5, 6",
            "5,",
            "+5",
            "",
            "99999999999999999999",
        ] {
            let bad = lengths(&format!("content-length: {bad}"));
            assert_eq!(bad, Err(Malformed::Length));
        }
    }

    #[test]
    fn what_is_no_head_is_malformed() {
        for bytes in [
            b"SSH-2.0-x\r\n".as_slice(),
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.22 200 OK\r\n\r\n",
            b"HTTP/1.x 200 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nname : 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nname: 1\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nna\0me: 1\r\n\r\n",
            b"<html>",
        ] {
            assert_eq!(read(bytes).err(), Some(Malformed::Head), "{bytes:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; MAX_BYTES]].concat();
        assert_eq!(read(&endless).err(), Some(Malformed::HeadTooLarge));
    }

    #[test]
    fn a_connection_is_kept_as_its_version_and_words_say() {
        let keeps = |head: &str| {
            let head = format!("HTTP/{head}\r\n\r\n");
            read(head.as_bytes()).unwrap().unwrap().0.keeps_alive()
        };
        assert!(keeps("1.1 200 OK"));
        assert!(keeps("1.2 200 OK"));
        assert!(keeps("1.1 200 OK\r\nconnection: x, Keep-Alive"));
        assert!(!keeps(
            "1.1 200 OK\r\nconnection: x\r\nconnection: a, Close"
        ));
        assert!(!keeps("1.0 200 OK"));
        assert!(keeps("1.0 200 OK\r\nconnection: keep-alive"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = read(&[b"HTTP/1.1 200 OK\r\n", bytes.as_slice()].concat());
        }
    }
}
