//! Reads just enough of an answer to know where it ends and that it is the right one.

/// An answer that is being received.
#[derive(Debug, Default)]
pub struct Reply {
    /// Only of a head that came in pieces.
    head: Vec<u8>,
    /// Of the body, once the head is there.
    left: Option<u64>,
}

/// How far an answer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Whole,
}

const HEAD_LIMIT: usize = 64 << 10;

/// Where the head that `bytes` begin with ends, if it is whole.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\n') {
        let after = from + at + 1;
        if bytes[after..].starts_with(b"\r\n") {
            return Some(after + 2);
        }
        from = after;
    }
    None
}

impl Reply {
    /// Takes what was received. The answer must have status 200 and a body of `body` bytes with a
    /// Content-Length, and nothing may follow it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, bytes: &[u8], body: u64) -> Result<Progress, String> {
        let mut rest = bytes;
        if self.left.is_none() {
            // Nearly always the whole head comes at once, and nothing is copied.
            if self.head.is_empty()
                && let Some(end) = head_end(bytes)
            {
                self.left = Some(length(&bytes[..end], body)?);
                rest = &bytes[end..];
            } else {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                let Some(end) = head_end(&self.head) else {
                    if self.head.len() > HEAD_LIMIT {
                        return Err("the head of an answer does not end".to_owned());
                    }
                    return Ok(Progress::More);
                };
                self.left = Some(length(&self.head[..end], body)?);
                rest = &bytes[end - before..];
                self.head.clear();
            }
        }
        let Some(left) = self
            .left
            .and_then(|left| left.checked_sub(rest.len() as u64))
        else {
            return Err("more bytes came than the answer has".to_owned());
        };
        if left > 0 {
            self.left = Some(left);
            return Ok(Progress::More);
        }
        self.left = None;
        Ok(Progress::Whole)
    }
}

/// The length that the head says, if it is the right one.
fn length(head: &[u8], body: u64) -> Result<u64, String> {
    let wrong = |what: &str| {
        let head = String::from_utf8_lossy(head);
        Err(format!("an answer {what}: {:?}", head.trim_end()))
    };
    if !head.starts_with(b"HTTP/1.1 200") {
        return wrong("without status 200");
    }
    let length = head
        .split(|byte| *byte == b'\n')
        .find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            line[..colon]
                .eq_ignore_ascii_case(b"content-length")
                .then(|| line[colon + 1..].trim_ascii())
        })
        .and_then(|value| str::from_utf8(value).ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length == body => Ok(length),
        Some(_) => wrong("with another length than the backend's"),
        None => wrong("without Content-Length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn an_answer_ends_where_it_ends_however_it_is_cut() {
        for cut in 1..ANSWER.len() {
            let mut reply = Reply::default();
            for _ in 0..2 {
                assert_eq!(reply.take(&ANSWER[..cut], 5), Ok(Progress::More), "{cut}");
                assert_eq!(reply.take(&ANSWER[cut..], 5), Ok(Progress::Whole), "{cut}");
            }
        }
        assert_eq!(Reply::default().take(ANSWER, 5), Ok(Progress::Whole));
    }

    #[test]
    fn a_wrong_answer_is_none() {
        for (bytes, body) in [
            (
                &b"HTTP/1.1 502 Bad\r\nContent-Length: 5\r\n\r\nhello"[..],
                5,
            ),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", 5),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 5),
            (ANSWER, 6),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", 5),
        ] {
            assert!(Reply::default().take(bytes, body).is_err(), "{bytes:?}");
        }
    }
}
