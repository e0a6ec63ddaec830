//! The messages of the app's gRPC service, written and read by hand, as they have three fields at most.
//!
//! ```text
//! package sample;
//! service App {
//!   rpc Version(google.protobuf.Empty) returns (Text);
//!   rpc Events(Subscription) returns (stream Text);
//!   rpc Echo(stream Text) returns (stream Text);
//! }
//! message Text { string text = 1; }
//! message Subscription { uint32 events = 1; uint32 every_ms = 2; }
//! ```

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Name of the service, which its health check also knows.
pub const SERVICE: &str = "sample.App";

/// Paths of the calls.
pub const VERSION: &str = "/sample.App/Version";
pub const EVENTS: &str = "/sample.App/Events";
pub const ECHO: &str = "/sample.App/Echo";
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Type of requests and answers.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Length of what precedes a message on the wire: a flag and the length of the message.
const PREFIX: usize = 5;

/// A wish for events.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Subscription {
    pub events: u32,
    pub every_ms: u32,
}

/// The value of a field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

// === impl Subscription ===

impl Subscription {
    /// Returns the message.
    pub fn encode(self) -> Vec<u8> {
        let mut message = Vec::new();
        for (tag, number) in [(0x08, self.events), (0x10, self.every_ms)] {
            message.push(tag);
            put_number(&mut message, number.into());
        }
        message
    }

    /// Reads the message; none when it is no message.
    pub fn decode(mut message: &[u8]) -> Option<Self> {
        let mut subscription = Self::default();
        while !message.is_empty() {
            match take_field(&mut message)? {
                (1, Value::Number(number)) => subscription.events = u32::try_from(number).ok()?,
                (2, Value::Number(number)) => subscription.every_ms = u32::try_from(number).ok()?,
                _ => {}
            }
        }
        Some(subscription)
    }
}

/// Returns the message whose first field is this text.
pub fn text(text: &[u8]) -> Vec<u8> {
    let mut message = vec![0x0a];
    put_number(&mut message, text.len() as u64);
    message.extend_from_slice(text);
    message
}

/// Reads the first field of a message, which is empty if it is missing; none when it is no message.
pub fn read_text(mut message: &[u8]) -> Option<&[u8]> {
    let mut text: &[u8] = b"";
    while !message.is_empty() {
        if let (1, Value::Bytes(bytes)) = take_field(&mut message)? {
            text = bytes;
        }
    }
    Some(text)
}

/// Returns the message as it is sent.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.freeze()
}

/// Takes the next message from what was received, once it is whole.
pub fn take<'a>(received: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = received.get(1..PREFIX)?.get_u32() as usize;
    let message = received.get(PREFIX..)?.get(..length)?;
    *received = &received[PREFIX + length..];
    Some(message)
}

fn put_number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn take_number(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Takes the number and the value of the next field.
fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_number(message)?;
    let value = match tag & 7 {
        0 => Value::Number(take_number(message)?),
        2 => {
            let length = usize::try_from(take_number(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Value::Bytes(bytes)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_protocol_buffers() {
        let wish = Subscription {
            events: 300,
            every_ms: 5,
        };
        // The number is the example of their documentation, with 150 instead.
        assert_eq!(wish.encode(), [0x08, 0xac, 0x02, 0x10, 0x05]);
        assert_eq!(Subscription::decode(&wish.encode()), Some(wish));
        assert_eq!(text(b"testing"), b"\x0a\x07testing");
        let long = "x".repeat(300);
        assert_eq!(read_text(&text(long.as_bytes())), Some(long.as_bytes()));
        assert_eq!(read_text(b""), Some(&b""[..]));
        // Other fields are left out.
        assert_eq!(read_text(b"\x10\x05\x0a\x01x"), Some(&b"x"[..]));
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [
            &b"\x0a"[..],
            b"\x0a\x05abc",
            b"\x08\x80",
            b"\x0d1234",
            &[0xff; 11],
        ] {
            assert_eq!(read_text(bytes), None, "{bytes:?}");
            assert_eq!(Subscription::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_is_taken_once_it_is_whole() {
        let sent = [frame(b"abc"), frame(b"")].concat();
        let mut rest = &sent[..];
        assert_eq!(take(&mut rest), Some(&b"abc"[..]));
        assert_eq!(take(&mut rest), Some(&b""[..]));
        assert_eq!(take(&mut rest), None);
        for length in 0..8 {
            assert_eq!(take(&mut &sent[..length]), None, "{length}");
        }
    }
}
