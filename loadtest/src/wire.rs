//! Reads HTTP/1.1 answers, strictly and bit by bit.
//!
//! Written by hand, not taken from the library that handoff is built on: a tester that shares the
//! parser of what it tests would share its mistakes.

use bytes::{Buf as _, BytesMut};

/// Larger heads and bodies are no answer to anything that is asked here.
const HEAD_LIMIT: usize = 64 * 1024;
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// `X-Release`.
    pub release: Option<String>,
    /// `X-Request-ID`.
    pub id: Option<String>,
    /// `Sec-WebSocket-Accept`.
    pub accept: Option<String>,
    pub body: Vec<u8>,
    /// The connection may carry another request.
    pub keep: bool,
}

/// Reads the answers that come on one connection.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes received and not yet read.
    pub received: BytesMut,
    /// The client speaks HTTP/1.0, so an answer may do so, too, and may not be chunked.
    pub old: bool,
    /// The server is any, so an answer may be HTTP/1.0's though the request was not.
    pub either: bool,
    part: Part,
    answer: Option<Answer>,
}

/// What is not HTTP, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// What the next bytes are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
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
    /// The answer, once all of it is there.
    ///
    /// # Errors
    /// What was received is not an answer.
    pub fn next(&mut self) -> Result<Option<Answer>, Malformed> {
        loop {
            match self.part {
                Part::Head => {
                    let Some(head) = self.take_until(b"\r\n\r\n")? else {
                        return Ok(None);
                    };
                    let (answer, part) = parse_head(&head, self.old, self.either)?;
                    // An informational answer precedes the final one.
                    if answer.status >= 200 {
                        (self.answer, self.part) = (Some(answer), part);
                    }
                }
                Part::Body { left: 0 } => return Ok(self.finish()),
                Part::Body { left } => match self.take_body(left) {
                    Some(left) => self.part = Part::Body { left },
                    None => return Ok(None),
                },
                Part::BodyUntilClose => {
                    self.take_body(u64::MAX);
                    return Ok(None);
                }
                Part::ChunkSize => {
                    let Some(line) = self.take_until(b"\r\n")? else {
                        return Ok(None);
                    };
                    self.part = match parse_chunk_size(&line)? {
                        0 => Part::Trailers,
                        left => Part::Chunk { left },
                    };
                }
                Part::Chunk { left: 0 } => self.part = Part::ChunkEnd,
                Part::Chunk { left } => match self.take_body(left) {
                    Some(left) => self.part = Part::Chunk { left },
                    None => return Ok(None),
                },
                Part::ChunkEnd => match self.take_until(b"\r\n")? {
                    Some(line) if line.is_empty() => self.part = Part::ChunkSize,
                    Some(_) => return malformed("a chunk is longer than it said"),
                    None => return Ok(None),
                },
                Part::Trailers => match self.take_until(b"\r\n")? {
                    Some(line) if line.is_empty() => return Ok(self.finish()),
                    Some(_) => {}
                    None => return Ok(None),
                },
            }
        }
    }

    /// The head of an answer, once all of it is there: what follows is no body of HTTP when it
    /// switches protocols.
    ///
    /// # Errors
    /// What was received is not an answer.
    pub fn next_head(&mut self) -> Result<Option<Answer>, Malformed> {
        match self.take_until(b"\r\n\r\n")? {
            Some(head) => Ok(Some(parse_head(&head, self.old, self.either)?.0)),
            None => Ok(None),
        }
    }

    /// The answer that the end of the connection completes, if that is how it was framed.
    pub fn next_at_close(&mut self) -> Option<Answer> {
        if self.part == Part::BodyUntilClose {
            self.finish()
        } else {
            None
        }
    }

    /// As much as there is of the body of an answer that is not complete.
    pub fn body_so_far(&self) -> &[u8] {
        self.answer.as_ref().map_or(&[], |answer| &answer.body)
    }

    /// Some of the next answer is there already.
    pub fn began(&self) -> bool {
        self.answer.is_some() || !self.received.is_empty()
    }

    fn finish(&mut self) -> Option<Answer> {
        self.part = Part::Head;
        self.answer.take()
    }

    /// What comes before `end`; both are taken.
    fn take_until(&mut self, end: &[u8]) -> Result<Option<BytesMut>, Malformed> {
        let Some(at) = self
            .received
            .windows(end.len())
            .position(|part| part == end)
        else {
            if self.received.len() > HEAD_LIMIT {
                return malformed("a head or line never ends");
            }
            return Ok(None);
        };
        let taken = self.received.split_to(at);
        self.received.advance(end.len());
        Ok(Some(taken))
    }

    /// How much is left after taking what is there; none when nothing was there.
    fn take_body(&mut self, left: u64) -> Option<u64> {
        let length = self
            .received
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let answer = self.answer.as_mut().filter(|_| length > 0)?;
        answer.body.extend_from_slice(&self.received[..length]);
        self.received.advance(length);
        Some(left - length as u64)
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

fn parse_head(head: &[u8], old: bool, either: bool) -> Result<(Answer, Part), Malformed> {
    let Ok(head) = str::from_utf8(head) else {
        return malformed("the head is not text");
    };
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 ").filter(|_| old || either))
        .filter(|rest| rest.len() == 3 || rest.as_bytes().get(3) == Some(&b' '))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .filter(|status| (100..600).contains(status));
    let Some(status) = status else {
        return malformed(format!("{line:?} is not a status line of HTTP/1.1"));
    };

    let mut answer = Answer {
        status,
        release: None,
        id: None,
        accept: None,
        body: Vec::new(),
        // An answer of HTTP/1.0 is the last on its connection, as nothing else was asked for.
        keep: !old && !line.starts_with("HTTP/1.0 "),
    };
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_token(name)) else {
            return malformed(format!("{line:?} is not a field"));
        };
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("x-release") {
            if answer.release.replace(value.to_owned()).is_some() {
                return malformed("X-Release comes twice");
            }
        } else if name.eq_ignore_ascii_case("x-request-id") {
            if answer.id.replace(value.to_owned()).is_some() {
                return malformed("X-Request-ID comes twice");
            }
        } else if name.eq_ignore_ascii_case("sec-websocket-accept") {
            answer.accept = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = value
                .parse()
                .ok()
                .filter(|length| digits && *length <= BODY_LIMIT);
            if parsed.is_none() || length.replace(parsed).is_some() {
                return malformed(format!(
                    "Content-Length {value:?} is wrong, too large or comes twice"
                ));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if old {
                return malformed("Transfer-Encoding in an answer to HTTP/1.0");
            }
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return malformed(format!(
                    "Transfer-Encoding {value:?} is wrong or comes twice"
                ));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            answer.keep &= !value
                .split(',')
                .any(|option| option.trim().eq_ignore_ascii_case("close"));
        }
    }

    let part = match (status, chunked, length.flatten()) {
        (_, true, Some(_)) => {
            return malformed("Content-Length and Transfer-Encoding come together");
        }
        (204 | 304, _, _) => Part::Body { left: 0 },
        (_, true, None) => Part::ChunkSize,
        (_, false, Some(left)) => Part::Body { left },
        (_, false, None) => {
            answer.keep = false;
            Part::BodyUntilClose
        }
    };
    Ok((answer, part))
}

fn parse_chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    let hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let size = str::from_utf8(digits)
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match size.filter(|size| hex && *size <= BODY_LIMIT) {
        Some(size) => Ok(size),
        None => malformed(format!(
            "{:?} is no size of a chunk",
            String::from_utf8_lossy(line)
        )),
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str, keep: bool) -> Answer {
        Answer {
            status,
            release: Some("v1".to_owned()),
            id: None,
            accept: None,
            body: body.into(),
            keep,
        }
    }

    /// Feeds the bytes one by one; the answer must come with the last.
    fn read(bytes: &str) -> Result<Option<Answer>, Malformed> {
        let mut reader = Reader::default();
        let (last, before) = bytes.as_bytes().split_last().unwrap();
        for byte in before {
            reader.received.extend_from_slice(&[*byte]);
            assert_eq!(reader.next()?, None, "an answer before its last byte");
        }
        reader.received.extend_from_slice(&[*last]);
        reader.next()
    }

    #[test]
    fn answers_are_read_however_they_are_framed() {
        for (bytes, expected) in [
            (
                "HTTP/1.1 200 OK\r\nX-Release: v1\r\nContent-Length: 2\r\n\r\nhi",
                answer(200, "hi", true),
            ),
            (
                "HTTP/1.1 200\r\nx-release:v1\r\ncontent-length: 0\r\n\r\n",
                answer(200, "", true),
            ),
            (
                "HTTP/1.1 204 No Content\r\nX-Release: v1\r\n\r\n",
                answer(204, "", true),
            ),
            (
                "HTTP/1.1 503 Sorry\r\nX-Release: v1\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\n!",
                answer(503, "!", false),
            ),
            (
                "HTTP/1.1 200 OK\r\nX-Release: v1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\nA;x=y\r\n, my world\r\n0\r\nTrailer: t\r\n\r\n",
                answer(200, "hello, my world", true),
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX-Release: v1\r\n\
                 Content-Length: 2\r\n\r\nhi",
                answer(200, "hi", true),
            ),
        ] {
            assert_eq!(read(bytes), Ok(Some(expected)), "{bytes:?}");
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection_and_only_such_a_body() {
        let mut reader = Reader::default();
        reader
            .received
            .extend_from_slice(b"HTTP/1.1 200 OK\r\nX-Release: v1\r\n\r\nhi");
        assert_eq!(reader.next(), Ok(None));
        assert_eq!(reader.next_at_close(), Some(answer(200, "hi", false)));

        for cut in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        ] {
            let mut reader = Reader::default();
            reader.received.extend_from_slice(cut.as_bytes());
            assert_eq!(reader.next(), Ok(None));
            assert_eq!(reader.next_at_close(), None, "{cut:?}");
            assert!(reader.began());
        }
    }

    #[test]
    fn an_answer_to_http_1_0_may_be_of_it_and_is_never_chunked() {
        for (head, right) in [
            ("HTTP/1.0 200 OK\r\nX-Release: v1\r\n", true),
            ("HTTP/1.1 200 OK\r\nX-Release: v1\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", false),
        ] {
            let mut reader = Reader {
                old: true,
                ..Reader::default()
            };
            reader.received.extend_from_slice(head.as_bytes());
            reader.received.extend_from_slice(b"\r\nhi");
            assert_eq!(reader.next().is_ok(), right, "{head}");
            let expected = right.then(|| answer(200, "hi", false));
            assert_eq!(reader.next_at_close(), expected, "{head}");
        }
    }

    #[test]
    fn a_server_of_which_nothing_is_known_may_speak_http_1_0() {
        let mut reader = Reader {
            either: true,
            ..Reader::default()
        };
        reader
            .received
            .extend_from_slice(b"HTTP/1.0 200 OK\r\nX-Release: v1\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(reader.next(), Ok(Some(answer(200, "hi", false))));
    }

    #[test]
    fn what_follows_an_answer_stays_for_the_next() {
        let mut reader = Reader::default();
        reader.received.extend_from_slice(
            b"HTTP/1.1 204 A\r\n\r\nHTTP/1.1 205 B\r\nContent-Length: 0\r\n\r\nx",
        );
        assert_eq!(reader.next().unwrap().unwrap().status, 204);
        assert!(reader.began());
        assert_eq!(reader.next().unwrap().unwrap().status, 205);
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
        let mut endless = Reader::default();
        endless
            .received
            .extend_from_slice(&vec![b'x'; HEAD_LIMIT + 1]);
        assert!(endless.next().is_err());
    }
}
