//! A strict reader of HTTP/1.1 responses.
//!
//! It is not the library that handoff is built on: a tester that shared the parser of what it tests
//! would share its mistakes.

use bytes::{Buf as _, BytesMut};

/// Upper limits of a head and a body, in bytes: nothing that is asked for here is larger.
const HEAD_LIMIT: usize = 64 * 1024;
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// A complete response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    pub status: u16,
    /// Value of `X-Release`.
    pub release: Option<String>,
    /// Value of `X-Request-ID`.
    pub id: Option<String>,
    /// Value of `Sec-WebSocket-Accept`.
    pub accept: Option<String>,
    /// `NAME=VALUE` of each cookie that it sets.
    pub cookies: Vec<String>,
    pub body: Vec<u8>,
    /// Value of `grpc-status`, in the head or behind the body.
    pub grpc_status: Option<String>,
    /// The connection may carry another request.
    pub is_kept: bool,
}

/// The responses that come on one connection.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes that were received and are not yet read.
    pub received: BytesMut,
    pub version: Version,
    state: State,
    response: Option<Response>,
}

/// The versions that a response may have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    #[default]
    Http11,
    /// The client speaks HTTP/1.0: either version, and no chunks.
    Http10,
    /// The server is not known: either version.
    Any,
}

/// A description of what is not HTTP.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// The kind of the next bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Head,
    Body {
        left: u64,
    },
    BodyUntilClose,
    ChunkSize,
    Chunk {
        left: u64,
    },
    ChunkEnd,
    Trailers,
}

impl Reader {
    /// Takes the next response once it is complete.
    pub fn take_response(&mut self) -> Result<Option<Response>, Malformed> {
        loop {
            self.state = match self.state {
                State::Head => {
                    let Some(head) = self.take_until(b"\r\n\r\n")? else {
                        return Ok(None);
                    };
                    let (response, state) = parse_head(&head, self.version)?;
                    // An informational response precedes the final one.
                    if response.status < 200 {
                        continue;
                    }
                    self.response = Some(response);
                    state
                }
                State::Body { left: 0 } => return Ok(self.finish()),
                State::Body { left } => match self.take_body(left) {
                    Some(left) => State::Body { left },
                    None => return Ok(None),
                },
                State::BodyUntilClose => {
                    self.take_body(u64::MAX);
                    return Ok(None);
                }
                State::ChunkSize => match self.take_until(b"\r\n")? {
                    None => return Ok(None),
                    Some(line) => match parse_chunk_size(&line)? {
                        0 => State::Trailers,
                        left => State::Chunk { left },
                    },
                },
                State::Chunk { left: 0 } => State::ChunkEnd,
                State::Chunk { left } => match self.take_body(left) {
                    Some(left) => State::Chunk { left },
                    None => return Ok(None),
                },
                State::ChunkEnd => match self.take_until(b"\r\n")? {
                    Some(line) if line.is_empty() => State::ChunkSize,
                    Some(_) => return malformed("a chunk is longer than it said"),
                    None => return Ok(None),
                },
                State::Trailers => match self.take_until(b"\r\n")? {
                    Some(line) if line.is_empty() => return Ok(self.finish()),
                    Some(_) => State::Trailers,
                    None => return Ok(None),
                },
            };
        }
    }

    /// Takes the head of a response that may switch protocols, once it is complete.
    pub fn take_head(&mut self) -> Result<Option<Response>, Malformed> {
        let head = self.take_until(b"\r\n\r\n")?;
        head.map(|head| Ok(parse_head(&head, self.version)?.0))
            .transpose()
    }

    /// Takes the response that the end of the connection completes, if it was framed so.
    pub fn take_at_close(&mut self) -> Option<Response> {
        if self.state == State::BodyUntilClose {
            self.finish()
        } else {
            None
        }
    }

    /// Returns the received part of the body of an incomplete response.
    pub fn partial_body(&self) -> &[u8] {
        self.response
            .as_ref()
            .map_or(&[], |response| &response.body)
    }

    /// Tells whether a part of the next response has been received.
    pub fn has_begun(&self) -> bool {
        self.response.is_some() || !self.received.is_empty()
    }

    fn finish(&mut self) -> Option<Response> {
        self.state = State::Head;
        self.response.take()
    }

    /// Takes the bytes before `end`, and `end`.
    fn take_until(&mut self, end: &[u8]) -> Result<Option<BytesMut>, Malformed> {
        let mut parts = self.received.windows(end.len());
        let Some(at) = parts.position(|part| part == end) else {
            if self.received.len() > HEAD_LIMIT {
                return malformed("a head or line never ends");
            }
            return Ok(None);
        };
        let taken = self.received.split_to(at);
        self.received.advance(end.len());
        Ok(Some(taken))
    }

    /// Moves received bytes to the body; returns the rest of `left`, or none without any bytes.
    fn take_body(&mut self, left: u64) -> Option<u64> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = self.received.len().min(most);
        let response = self.response.as_mut().filter(|_| length > 0)?;
        response.body.extend_from_slice(&self.received[..length]);
        self.received.advance(length);
        Some(left - length as u64)
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

fn parse_head(head: &[u8], version: Version) -> Result<(Response, State), Malformed> {
    let Ok(head) = str::from_utf8(head) else {
        return malformed("the head is not text");
    };
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let older = line.strip_prefix("HTTP/1.0 ");
    let status = older
        .filter(|_| version != Version::Http11)
        .or_else(|| line.strip_prefix("HTTP/1.1 "))
        .filter(|rest| rest.len() == 3 || rest.as_bytes().get(3) == Some(&b' '))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .filter(|status| (100..600).contains(status));
    let Some(status) = status else {
        return malformed(format!("{line:?} is not a status line of HTTP/1.1"));
    };

    let mut response = Response {
        status,
        // A response of HTTP/1.0 is the last on its connection, as nothing else was asked for.
        is_kept: version != Version::Http10 && older.is_none(),
        ..Response::default()
    };
    let mut length = None;
    let mut is_chunked = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_token(name)) else {
            return malformed(format!("{line:?} is not a field"));
        };
        let value = value.trim_matches([' ', '\t']);
        let is_repeated = match name.to_ascii_lowercase().as_str() {
            "x-release" => response.release.replace(value.to_owned()).is_some(),
            "x-request-id" => response.id.replace(value.to_owned()).is_some(),
            "sec-websocket-accept" => response.accept.replace(value.to_owned()).is_some(),
            "set-cookie" => {
                let cookie = value.split(';').next().unwrap_or_default();
                response.cookies.push(cookie.to_owned());
                false
            }
            "content-length" => {
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let parsed = value.parse().ok().filter(|length| *length <= BODY_LIMIT);
                let Some(parsed) = parsed.filter(|_| is_number) else {
                    return malformed(format!("Content-Length {value:?} is wrong or too large"));
                };
                length.replace(parsed).is_some()
            }
            "transfer-encoding" => {
                if version == Version::Http10 || !value.eq_ignore_ascii_case("chunked") {
                    return malformed(format!("Transfer-Encoding {value:?} is not understood"));
                }
                std::mem::replace(&mut is_chunked, true)
            }
            "connection" => {
                let mut options = value.split(',').map(str::trim);
                response.is_kept &= !options.any(|option| option.eq_ignore_ascii_case("close"));
                false
            }
            _ => false,
        };
        if is_repeated {
            return malformed(format!("{name} comes twice"));
        }
    }

    let state = match (status, is_chunked, length) {
        (_, true, Some(_)) => {
            return malformed("Content-Length and Transfer-Encoding come together");
        }
        (204 | 304, _, _) => State::Body { left: 0 },
        (_, true, None) => State::ChunkSize,
        (_, false, Some(left)) => State::Body { left },
        (_, false, None) => {
            response.is_kept = false;
            State::BodyUntilClose
        }
    };
    Ok((response, state))
}

fn parse_chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let line = String::from_utf8_lossy(line);
    let digits = line.split(';').next().unwrap_or_default().trim_end();
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u64::from_str_radix(digits, 16) {
        Ok(size) if is_hex && size <= BODY_LIMIT => Ok(size),
        _ => malformed(format!("{line:?} is not the size of a chunk")),
    }
}

fn is_token(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str, is_kept: bool) -> Response {
        Response {
            status,
            release: Some("v1".to_owned()),
            body: body.into(),
            is_kept,
            ..Response::default()
        }
    }

    /// Reads the bytes one by one; the response must come with the last.
    fn read(bytes: &str) -> Result<Option<Response>, Malformed> {
        let mut reader = Reader::default();
        let (last, before) = bytes.as_bytes().split_last().unwrap();
        for byte in before {
            reader.received.extend_from_slice(&[*byte]);
            assert_eq!(reader.take_response()?, None, "before its last byte");
        }
        reader.received.extend_from_slice(&[*last]);
        reader.take_response()
    }

    fn reader(version: Version, bytes: &str) -> Reader {
        Reader {
            received: bytes.into(),
            version,
            ..Reader::default()
        }
    }

    #[test]
    fn responses_are_read_however_they_are_framed() {
        for (bytes, expected) in [
            (
                "HTTP/1.1 200 OK\r\nX-Release: v1\r\nContent-Length: 2\r\n\r\nhi",
                response(200, "hi", true),
            ),
            (
                "HTTP/1.1 200\r\nx-release:v1\r\ncontent-length: 0\r\n\r\n",
                response(200, "", true),
            ),
            (
                "HTTP/1.1 204 No Content\r\nX-Release: v1\r\n\r\n",
                response(204, "", true),
            ),
            (
                "HTTP/1.1 503 Sorry\r\nX-Release: v1\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\n!",
                response(503, "!", false),
            ),
            (
                "HTTP/1.1 200 OK\r\nX-Release: v1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\nA;x=y\r\n, my world\r\n0\r\nTrailer: t\r\n\r\n",
                response(200, "hello, my world", true),
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX-Release: v1\r\n\
                 Content-Length: 2\r\n\r\nhi",
                response(200, "hi", true),
            ),
        ] {
            assert_eq!(read(bytes), Ok(Some(expected)), "{bytes:?}");
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection_and_only_such_a_body() {
        let mut whole = reader(
            Version::Http11,
            "HTTP/1.1 200 OK\r\nX-Release: v1\r\n\r\nhi",
        );
        assert_eq!(whole.take_response(), Ok(None));
        assert_eq!(whole.take_at_close(), Some(response(200, "hi", false)));

        for cut in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        ] {
            let mut reader = reader(Version::Http11, cut);
            assert_eq!(reader.take_response(), Ok(None));
            assert_eq!(reader.take_at_close(), None, "{cut:?}");
            assert!(reader.has_begun());
        }
    }

    #[test]
    fn an_answer_to_http_1_0_may_be_of_it_and_is_never_chunked() {
        for (head, is_right) in [
            ("HTTP/1.0 200 OK\r\nX-Release: v1\r\n", true),
            ("HTTP/1.1 200 OK\r\nX-Release: v1\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", false),
        ] {
            let mut reader = reader(Version::Http10, &format!("{head}\r\nhi"));
            assert_eq!(reader.take_response().is_ok(), is_right, "{head}");
            let expected = is_right.then(|| response(200, "hi", false));
            assert_eq!(reader.take_at_close(), expected, "{head}");
        }
    }

    #[test]
    fn a_server_of_which_nothing_is_known_may_speak_http_1_0() {
        let text = "HTTP/1.0 200 OK\r\nX-Release: v1\r\nContent-Length: 2\r\n\r\nhi";
        let mut reader = reader(Version::Any, text);
        assert_eq!(reader.take_response(), Ok(Some(response(200, "hi", false))));
    }

    #[test]
    fn bytes_after_a_response_stay_for_the_next() {
        let text = "HTTP/1.1 204 A\r\n\r\nHTTP/1.1 205 B\r\nContent-Length: 0\r\n\r\nx";
        let mut reader = reader(Version::Http11, text);
        assert_eq!(reader.take_response().unwrap().unwrap().status, 204);
        assert!(reader.has_begun());
        assert_eq!(reader.take_response().unwrap().unwrap().status, 205);
        assert_eq!(&reader.received[..], b"x");
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bytes in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-Release: v1\r\nX-Release: v2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        let mut endless = reader(Version::Http11, &"x".repeat(HEAD_LIMIT + 1));
        assert!(endless.take_response().is_err());
    }
}
