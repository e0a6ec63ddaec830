//! Later minor versions of HTTP/1, which count as 1.1 (RFC 9110, section 2.5). httparse, and hyper
//! with it, take 1.0 and 1.1 only.

/// Length of `HTTP/1.1`.
const LENGTH: usize = 8;

/// The first bytes of HTTP/2 (RFC 9113, section 3.4).
pub const HTTP2_PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns `true` if these bytes are a part of the first ones of HTTP/2, and not all of them.
#[inline]
pub fn is_part_of_preface(received: &[u8]) -> bool {
    received.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(received)
}

/// Lowers the version of a request to 1.1, if it is a later one and its line is among the bytes
/// received first.
#[inline]
pub fn lower_request_version(received: &mut [u8]) {
    if let Some(length) = memchr::memchr(b'\n', received)
        && !matches!(received[..length], [.., b'0' | b'1', b'\r'])
    {
        lower_unusual_version(received);
    }
}

#[cold]
fn lower_unusual_version(received: &mut [u8]) {
    // Empty lines before a request are skipped (RFC 9112, section 2.2).
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let Some(start) = received.iter().position(|byte| !is_line_end(byte)) else {
        return;
    };
    let Some(length) = memchr::memchr(b'\n', &received[start..]) else {
        return;
    };
    let line = &received[..start + length];
    let end = line.strip_suffix(b"\r").unwrap_or(line).len();
    if let Some(at) = end.checked_sub(LENGTH)
        && at > start
        && received[at - 1] == b' '
    {
        lower(&mut received[at..end]);
    }
}

/// Lowers the version of a response that begins with these bytes, if it is a later one.
#[inline]
pub(super) fn lower_response_version(received: &mut [u8]) {
    let is_word = received.get(LENGTH).is_none_or(|byte| *byte == b' ');
    if is_word && let Some(version) = received.get_mut(..LENGTH) {
        lower(version);
    }
}

#[inline]
fn lower(version: &mut [u8]) {
    if let [start @ .., minor @ b'2'..=b'9'] = version
        && start == b"HTTP/1."
    {
        *minor = b'1';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(received: &str) -> String {
        let mut received = received.to_owned().into_bytes();
        lower_request_version(&mut received);
        String::from_utf8(received).unwrap()
    }

    #[test]
    fn a_later_minor_version_of_a_request_is_lowered() {
        for (before, after) in [
            (
                "GET / HTTP/1.2\r\na: HTTP/1.3\r\n",
                "GET / HTTP/1.1\r\na: HTTP/1.3\r\n",
            ),
            ("\r\n\nGET / HTTP/1.9\n\r\n", "\r\n\nGET / HTTP/1.1\n\r\n"),
        ] {
            assert_eq!(lowered(before), after);
        }
        for other in [
            "",
            "\r\n",
            "\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.2\r\n\r\n",
            "GET / HTTP/1.22\r\n\r\n",
            "GET /HTTP/1.2\r\n\r\n",
            "GET / HTTP/1.2",
            "HTTP/1.2\r\n\r\n",
            "2\n",
        ] {
            assert_eq!(lowered(other), other);
        }
    }
}
