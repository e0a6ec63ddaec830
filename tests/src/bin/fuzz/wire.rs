//! Answers, read: heads and bodies.

use bytes::BytesMut;
use handoff::data_plane::wire::{self, Chunked, Decoded, Decoder, Head, Malformed};
use http::{HeaderMap, Method};
use proptest::prelude::*;

use crate::soup;

const HEAD: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 204 \r\n",
    "HTTP/1.1 103 x\r\n",
    "HTTP/1.1 304",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "content-length: 5\r\n",
    "content-length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: gzip\r\n",
    "x: y\r\n",
    " folded\r\n",
    ":",
    "a",
    "connection: close\r\n",
    "\0",
    "HTTP/2 200\r\n\r\n",
];
const BODY: &[&str] = &[
    "0\r\n\r\n",
    "0\r\n",
    "1\r\na\r\n",
    "5\r\nabcde\r\n",
    "a\r\n",
    "\r\n",
    "\r",
    "\n",
    "ffffffffffffffff\r\n",
    "10000000000000000\r\n",
    ";x=y",
    "x: y\r\n",
    "content-length: 9\r\n",
    "-1\r\n",
    " ",
    "3\r\n",
];

/// A stream, with what is in front of it to make a head likely, and where it is cut.
pub(super) fn head() -> impl Strategy<Value = (bool, Vec<u8>, usize)> {
    (any::<bool>(), soup(HEAD, 8), 0..64_usize)
}

pub(super) fn body() -> impl Strategy<Value = (Vec<u8>, u8, usize)> {
    (soup(BODY, 8), 0..3_u8, 1..40_usize)
}

/// A head is found alike in one piece and in two, nothing behind it is taken, and no head has a
/// body of two lengths.
pub(super) fn read_head(
    (is_likely, soup, cut): (bool, Vec<u8>, usize),
) -> Result<(), TestCaseError> {
    let start: &[u8] = if is_likely {
        b"HTTP/1.1 200 OK\r\n"
    } else {
        b""
    };
    let stream = [start, &soup].concat();
    let mut received = BytesMut::from(stream.as_slice());
    let whole = head_of(&mut received);
    let (first, second) = stream.split_at(cut.min(stream.len()));
    let mut pieces = BytesMut::from(first);
    let in_first = head_of(&mut pieces);
    if in_first == Ok(None) {
        pieces.extend_from_slice(second);
        let in_two = head_of(&mut pieces);
        prop_assert_eq!(&in_two, &whole);
        if matches!(in_two, Ok(Some(_))) {
            prop_assert_eq!(pieces, received.clone());
        }
    }
    // Behind a malformed head nothing is read.
    match whole {
        Ok(Some(_)) => prop_assert!(stream.ends_with(&received), "what follows stays"),
        Ok(None) => prop_assert_eq!(&received, &stream, "nothing is taken"),
        Err(_) => {}
    }
    Ok(())
}

type Told = (u16, HeaderMap, Option<Decoder>, bool);

fn head_of(received: &mut BytesMut) -> Result<Option<Told>, String> {
    let head = read_head_of(received).map_err(|error| error.to_string())?;
    Ok(head.map(|head| {
        let decoder = Decoder::of(&head, &Method::GET).ok();
        let keeps_alive = head.keeps_alive();
        (head.status.as_u16(), head.headers, decoder, keeps_alive)
    }))
}

fn read_head_of(received: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    wire::read_head(received, &mut HeaderMap::new())
}

/// A body is found alike in one piece and in many, and nothing behind it is taken.
pub(super) fn decode((stream, kind, piece): (Vec<u8>, u8, usize)) -> Result<(), TestCaseError> {
    let decoder = match kind {
        0 => Decoder::Length(7),
        1 => Decoder::UntilClose,
        _ => Decoder::Chunked(Chunked::Size),
    };
    let whole = decode_all(decoder, &[stream.as_slice()]);
    let pieces: Vec<_> = stream.chunks(piece).collect();
    let cut = decode_all(decoder, &pieces);
    if whole.is_some() {
        prop_assert_eq!(whole, cut);
    }
    Ok(())
}

/// The body, whether it has ended, and how many bytes were taken; nothing if it is malformed.
fn decode_all(mut decoder: Decoder, pieces: &[&[u8]]) -> Option<(Vec<u8>, bool, usize)> {
    let mut received = BytesMut::new();
    let (mut body, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        if decoder.is_done() {
            break;
        }
        received.extend_from_slice(piece);
        loop {
            let before = received.len();
            let decoded = decoder.decode(&mut received).ok()?;
            taken += before - received.len();
            match decoded {
                Decoded::Data(data) => {
                    assert!(!data.is_empty(), "no end is in a part without data");
                    body.extend_from_slice(&data);
                }
                Decoded::Trailers(_) => assert!(decoder.is_done()),
                Decoded::More => {
                    assert!(!decoder.is_done());
                    break;
                }
                Decoded::End => {
                    assert!(decoder.is_done());
                    break;
                }
            }
        }
    }
    Some((body, decoder.is_done(), taken))
}
