//! The decoder of a response's body (RFC 9112, section 6.3).

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use super::{Head, HeaderFlags, Malformed};

/// Maximum length of a chunk's size with its extensions, and of the trailers, in bytes.
const MAX_LINE: usize = 16 * 1024;
const MAX_TRAILERS: usize = 64;
/// The end of a chunked body without trailers.
const LAST: &[u8] = b"0\r\n\r\n";

/// The position in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// A body of known length, with the number of bytes to come.
    Length(u64),
    /// A chunked body.
    Chunked(Chunked),
    /// A body that ends with the connection.
    UntilClose,
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// The size of a chunk.
    Size,
    /// The data of a chunk, with the number of bytes to come.
    Data(u64),
    /// The line end behind the data.
    DataEnd,
    /// The trailers.
    Trailers,
    /// The end of the body.
    Done,
}

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Bytes of the body.
    Data(Bytes),
    /// The fields behind the body.
    Trailers(HeaderMap),
    /// Nothing yet: more has to be received.
    More,
    /// The end of the body.
    End,
}

// === impl Decoder ===

impl Decoder {
    /// Returns the decoder for the response to a request of this method.
    ///
    /// # Errors
    /// Returns [`Malformed::Length`] if the coding is one of HTTP/1.0, where it is undefined.
    pub fn of(head: &Head, method: &Method) -> Result<Self, Malformed> {
        let is_bodyless = *method == Method::HEAD
            || head.status.is_informational()
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if is_bodyless {
            return Ok(Self::Length(0));
        }
        if head.flags.has_any(HeaderFlags::TRANSFER_ENCODING) {
            return if head.version == Version::HTTP_10 {
                Err(Malformed::Length)
            } else if is_chunked(&head.headers) {
                Ok(Self::Chunked(Chunked::Size))
            } else {
                Ok(Self::UntilClose)
            };
        }
        Ok(head.content_length.map_or(Self::UntilClose, Self::Length))
    }

    /// Returns `true` once the whole body has been decoded.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Done))
    }

    /// Returns the number of bytes to come, if known.
    pub fn remaining(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next part from the received bytes.
    ///
    /// # Errors
    /// Returns [`Malformed`] if they are no part of a body.
    pub fn decode(&mut self, received: &mut BytesMut) -> Result<Decoded, Malformed> {
        match self {
            Self::Length(0) => Ok(Decoded::End),
            _ if received.is_empty() && !self.is_done() => Ok(Decoded::More),
            Self::Length(left) => Ok(take(received, left)),
            Self::UntilClose => Ok(Decoded::Data(received.split().freeze())),
            Self::Chunked(chunked) => chunked.decode(received),
        }
    }
}

// === impl Chunked ===

impl Chunked {
    fn decode(&mut self, received: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            match self {
                Self::Size => {
                    // httparse counts leading zeros as digits, of which it takes sixteen.
                    let zeros = leading_zeros(received);
                    match httparse::parse_chunk_size(&received[zeros..]) {
                        Ok(httparse::Status::Complete((length, size))) => {
                            received.advance(zeros + length);
                            *self = match size {
                                0 => Self::Trailers,
                                size => Self::Data(size),
                            };
                        }
                        Ok(httparse::Status::Partial) if received.len() < MAX_LINE => {
                            return Ok(Decoded::More);
                        }
                        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed::Chunk),
                    }
                }
                Self::Data(_) if received.is_empty() => return Ok(Decoded::More),
                Self::Data(left) => {
                    let data = take(received, left);
                    if *left == 0 {
                        *self = Self::DataEnd;
                        self.skip_data_end(received)?;
                        // Usually the end arrives with the last chunk; decoding it now saves a
                        // write.
                        if *self == Self::Size && received.starts_with(LAST) {
                            received.advance(LAST.len());
                            *self = Self::Done;
                        }
                    }
                    return Ok(data);
                }
                Self::DataEnd => {
                    self.skip_data_end(received)?;
                    if *self == Self::DataEnd {
                        return Ok(Decoded::More);
                    }
                }
                Self::Trailers => return self.trailers(received),
                Self::Done => return Ok(Decoded::End),
            }
        }
    }

    fn skip_data_end(&mut self, received: &mut BytesMut) -> Result<(), Malformed> {
        match &received[..received.len().min(2)] {
            b"\r\n" => {
                received.advance(2);
                *self = Self::Size;
                Ok(())
            }
            b"" | b"\r" => Ok(()),
            _ => Err(Malformed::Chunk),
        }
    }

    fn trailers(&mut self, received: &mut BytesMut) -> Result<Decoded, Malformed> {
        if received.starts_with(b"\r\n") {
            received.advance(2);
            *self = Self::Done;
            return Ok(Decoded::End);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let (length, trailers) = match httparse::parse_headers(received, &mut fields) {
            Ok(httparse::Status::Complete((length, fields))) => {
                let mut trailers = HeaderMap::with_capacity(fields.len());
                for field in fields {
                    let name = HeaderName::from_bytes(field.name.as_bytes());
                    let value = HeaderValue::from_bytes(field.value);
                    let (Ok(name), Ok(value)) = (name, value) else {
                        return Err(Malformed::Chunk);
                    };
                    trailers.append(name, value);
                }
                (length, trailers)
            }
            Ok(httparse::Status::Partial) if received.len() < MAX_LINE => {
                return Ok(Decoded::More);
            }
            Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed::Chunk),
        };
        received.advance(length);
        *self = Self::Done;
        Ok(Decoded::Trailers(trailers))
    }
}

/// Returns the number of zeros before another digit of a chunk's size.
fn leading_zeros(received: &[u8]) -> usize {
    let mut pairs = received.windows(2);
    let end = pairs.position(|pair| pair[0] != b'0' || !pair[1].is_ascii_hexdigit());
    end.unwrap_or_else(|| received.len().saturating_sub(1))
}

fn take(received: &mut BytesMut, left: &mut u64) -> Decoded {
    let here = received
        .len()
        .min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= here as u64;
    Decoded::Data(received.split_to(here).freeze())
}

/// Returns `true` if the last coding is `chunked`.
fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .next_back();
    let last = last.and_then(|value| value.as_bytes().rsplit(|&byte| byte == b',').next());
    last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data_plane::wire::{read_head, write_chunk, write_last_chunk};

    fn of(head: &str, method: &Method) -> Result<Decoder, Malformed> {
        let mut received = BytesMut::from(format!("HTTP/{head}\r\n\r\n").as_str());
        let head = read_head(&mut received, &mut HeaderMap::new())?.unwrap();
        Decoder::of(&head, method)
    }

    /// Returns the body in `pieces`, a mark of its end and the rest; and whether it is complete.
    fn decode(mut decoder: Decoder, pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), Malformed> {
        let mut received = BytesMut::new();
        let mut body = Vec::new();
        for piece in pieces {
            received.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut received)? {
                    Decoded::Data(data) => {
                        assert!(!data.is_empty());
                        body.extend_from_slice(&data);
                    }
                    Decoded::Trailers(_) => {}
                    Decoded::More => break,
                    Decoded::End => {
                        body.extend_from_slice(b"|");
                        body.extend_from_slice(&received);
                        return Ok((body, true));
                    }
                }
            }
        }
        Ok((body, decoder.is_done()))
    }

    #[test]
    fn the_head_says_how_the_body_comes() {
        use Malformed::Length as Unclear;
        let chunked = Ok(Decoder::Chunked(Chunked::Size));
        let get = |head: &str| of(head, &Method::GET);
        assert_eq!(get("1.1 200 OK"), Ok(Decoder::UntilClose));
        assert_eq!(
            get("1.1 200 OK\r\ncontent-length: 5"),
            Ok(Decoder::Length(5))
        );
        let twice = "1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5,5";
        assert_eq!(get(twice), Ok(Decoder::Length(5)));
        let differ = "1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6";
        assert_eq!(get(differ), Err(Unclear));
        for bad in ["+5", "-5", "0x5", "", "5 5", "99999999999999999999"] {
            assert_eq!(
                get(&format!("1.1 200 OK\r\ncontent-length: {bad}")),
                Err(Unclear)
            );
        }
        assert_eq!(get("1.1 200 OK\r\ntransfer-encoding: Chunked"), chunked);
        let both = "1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\ncontent-length: 5";
        assert_eq!(get(both), chunked);
        let other = "1.1 200 OK\r\ntransfer-encoding: chunked, gzip";
        assert_eq!(get(other), Ok(Decoder::UntilClose));
        assert_eq!(
            get("1.0 200 OK\r\ntransfer-encoding: chunked"),
            Err(Unclear)
        );
        for status in ["204 No Content", "304 Not Modified"] {
            let head = format!("1.1 {status}\r\ncontent-length: 5");
            assert_eq!(get(&head), Ok(Decoder::Length(0)));
        }
        let head = of("1.1 200 OK\r\ncontent-length: 5", &Method::HEAD);
        assert_eq!(head, Ok(Decoder::Length(0)));
    }

    #[test]
    fn what_comes_after_a_body_is_not_taken() {
        let all = |decoder, bytes: &[u8]| decode(decoder, &[bytes]).unwrap();
        assert_eq!(all(Decoder::Length(3), b"abcd"), (b"abc|d".to_vec(), true));
        let chunked = Decoder::Chunked(Chunked::Size);
        let bytes = b"3;x=y\r\nabc\r\n0\r\nx: 1\r\n\r\nd";
        assert_eq!(all(chunked, bytes), (b"abc|d".to_vec(), true));
        let zeros = b"00000000000000000003\r\nabc\r\n00000000000000000000\r\n\r\nd";
        assert_eq!(all(chunked, zeros), (b"abc|d".to_vec(), true));
    }

    #[test]
    fn bad_chunks_are_no_body() {
        for bytes in [
            b"x\r\n".as_slice(),
            b"-1\r\n",
            b"3\r\nabcd\r\n",
            b"fffffffffffffffff\r\n",
            b"000\r\r\n",
            &[b'0'; MAX_LINE],
            b"0\r\nbad trailer\r\n\r\n",
        ] {
            let decoded = decode(Decoder::Chunked(Chunked::Size), &[bytes]);
            assert_eq!(decoded, Err(Malformed::Chunk), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_chunked_body_is_found_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            piece in 1_usize..30,
        ) {
            let mut stream = Vec::new();
            for chunk in &chunks {
                write_chunk(&mut stream, chunk);
            }
            write_last_chunk(&mut stream, None);
            let pieces: Vec<_> = stream.chunks(piece).collect();
            let mut expected = chunks.concat();
            expected.push(b'|');
            let decoder = Decoder::Chunked(Chunked::Size);
            prop_assert_eq!(decode(decoder, &pieces), Ok((expected, true)));
            // With one byte less it has not ended.
            let cut = &stream[..stream.len() - 1];
            let (_, is_done) = decode(decoder, &[cut]).unwrap();
            prop_assert!(!is_done);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, piece in 1_usize..20) {
            let pieces: Vec<_> = bytes.chunks(piece).collect();
            for decoder in [
                Decoder::Chunked(Chunked::Size),
                Decoder::Length(7),
                Decoder::UntilClose,
            ] {
                let _ = decode(decoder, &pieces);
            }
        }
    }
}
