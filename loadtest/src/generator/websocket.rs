//! The exchange of messages on a WebSocket. Pure; the frames are tungstenite's.
//!
//! Each message names its request and its number, so that whatever comes back can be told apart.

use std::io::Cursor;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::time::Instant;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

use super::failure::{Failed, Failure};

/// The example of RFC 6455, section 1.3, and its answer: nothing here is secret.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Any mask will do: it protects broken intermediaries only.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Length of the longest frame that can be part of an exchange.
const LONGEST: u64 = 125;

/// A message that was sent this long before the server's close frame cannot still be on its way.
const PROMPT: Duration = Duration::from_millis(500);

/// Messages of one request, sent and echoed.
#[derive(Debug)]
pub struct Exchange {
    seq: u64,
    count: u32,
    /// Times at which messages were sent.
    sent: Vec<Instant>,
    echoed: u32,
    slowest: Duration,
    is_close_sent: bool,
    is_closed: bool,
}

impl Exchange {
    /// Makes an exchange of `count` messages for request `seq`.
    pub fn new(seq: u64, count: u32) -> Self {
        Self {
            seq,
            count,
            sent: Vec::new(),
            echoed: 0,
            slowest: Duration::ZERO,
            is_close_sent: false,
            is_closed: false,
        }
    }

    /// Returns the next message to send; none when all are sent or the server has closed.
    pub fn next_message(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.sent() == self.count || self.is_close_sent {
            return None;
        }
        self.sent.push(now);
        let message = self.message(self.sent());
        Some(masked(OpCode::Data(Data::Text), message))
    }

    /// Returns the close frame to send.
    pub fn close(&mut self) -> Vec<u8> {
        self.is_close_sent = true;
        let normal = 1000_u16.to_be_bytes();
        masked(OpCode::Control(Control::Close), normal.to_vec())
    }

    /// Takes the frames that have been received; returns the frames to send in answer.
    pub fn receive(&mut self, received: &mut BytesMut, now: Instant) -> Result<Vec<u8>, Failed> {
        let mut answers = Vec::new();
        while let Some((opcode, payload)) = take_frame(received)? {
            match opcode {
                OpCode::Data(Data::Text) => self.receive_text(&payload, now)?,
                OpCode::Control(Control::Ping) => {
                    answers.extend(masked(OpCode::Control(Control::Pong), payload.to_vec()));
                }
                OpCode::Control(Control::Pong) => {}
                OpCode::Control(Control::Close) => {
                    self.is_closed = true;
                    self.check_close(now)?;
                    if !self.is_close_sent {
                        self.is_close_sent = true;
                        answers.extend(masked(opcode, payload.to_vec()));
                    }
                }
                OpCode::Data(_) | OpCode::Control(_) => {
                    return Err(wrong(format!("a WebSocket frame of kind {opcode}")));
                }
            }
        }
        Ok(answers)
    }

    /// Returns the longest time that a message took to come back.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Tells whether every message has come back.
    pub fn is_complete(&self) -> bool {
        self.echoed == self.count
    }

    /// Tells whether the server has sent a close frame. It need not echo what was on its way then.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn check_close(&self, now: Instant) -> Result<(), Failed> {
        let oldest = self.sent.get(self.echoed as usize);
        let age = oldest.map_or(Duration::ZERO, |sent| now.duration_since(*sent));
        if age < PROMPT {
            return Ok(());
        }
        let missing = self.message(self.echoed + 1);
        let detail =
            format!("a close frame {age:?} after {missing:?} was sent, which has not come back");
        Err(Failed::new(Failure::Lost, detail))
    }

    fn sent(&self) -> u32 {
        self.sent.len() as u32
    }

    fn receive_text(&mut self, payload: &[u8], now: Instant) -> Result<(), Failed> {
        let expected = self.message(self.echoed + 1);
        if let Some(sent) = self.sent.get(self.echoed as usize)
            && payload == expected.as_bytes()
            && !self.is_closed
        {
            self.slowest = self.slowest.max(now.duration_since(*sent));
            self.echoed += 1;
            return Ok(());
        }
        let text = String::from_utf8_lossy(payload);
        let number = text.strip_prefix(&format!("{} ", self.seq));
        let kind = match number.and_then(|number| number.parse::<u32>().ok()) {
            Some(number) if number > self.sent() => Failure::Wrong,
            Some(number) if number > self.echoed + 1 => Failure::Lost,
            Some(_) => Failure::Repeated,
            None => Failure::MixedUp,
        };
        let detail = format!("message {text:?} where {expected:?} should have come");
        Err(Failed::new(kind, detail))
    }

    fn message(&self, number: u32) -> String {
        format!("{} {number}", self.seq)
    }
}

/// Makes a frame as clients send it.
fn masked(opcode: OpCode, payload: impl Into<Bytes>) -> Vec<u8> {
    let header = FrameHeader {
        opcode,
        mask: Some(MASK),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = Frame::from_payload(header, payload.into()).format(&mut bytes);
    bytes
}

fn take_frame(received: &mut BytesMut) -> Result<Option<(OpCode, BytesMut)>, Failed> {
    let mut cursor = Cursor::new(&received[..]);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|error| wrong(error.to_string()))?;
    let Some((header, length)) = parsed else {
        return Ok(None);
    };
    let start = cursor.position() as usize;
    if !header.is_final || header.mask.is_some() || length > LONGEST {
        return Err(wrong(format!(
            "a WebSocket frame with the header {header:?}"
        )));
    }
    if received.len() < start + length as usize {
        return Ok(None);
    }
    received.advance(start);
    Ok(Some((header.opcode, received.split_to(length as usize))))
}

fn wrong(detail: String) -> Failed {
    Failed::new(Failure::Wrong, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const CLOSE: OpCode = OpCode::Control(Control::Close);

    /// Makes a frame as servers send it.
    fn served(opcode: OpCode, payload: &'static str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        let frame = Frame::from_payload(header, Bytes::from_static(payload.as_bytes()));
        frame.format(&mut bytes).unwrap();
        bytes
    }

    fn received(frames: &[Vec<u8>]) -> Result<Exchange, Failure> {
        let mut exchange = Exchange::new(7, 3);
        let now = Instant::now();
        while exchange.next_message(now).is_some() {}
        let mut received = BytesMut::new();
        for byte in frames.concat() {
            received.extend_from_slice(&[byte]);
            let answers = exchange.receive(&mut received, now);
            answers.map_err(|failed| failed.kind)?;
        }
        Ok(exchange)
    }

    #[test]
    fn a_message_is_masked_and_names_its_request() {
        let mut exchange = Exchange::new(7, 1);
        let frame = exchange.next_message(Instant::now()).unwrap();
        assert_eq!(frame[..2], [0x81, 0x83]);
        let text: Vec<u8> = (frame[6..].iter().zip(MASK)).map(|(a, b)| a ^ b).collect();
        assert_eq!(text, b"7 1");
        assert_eq!(exchange.next_message(Instant::now()), None);
    }

    #[test]
    fn all_messages_in_order_are_complete() {
        let texts = ["7 1", "7 2", "7 3"].map(|text| served(TEXT, text));
        let exchange = received(&texts).unwrap();
        assert!(exchange.is_complete() && !exchange.is_closed());
        let ping = served(OpCode::Control(Control::Ping), "?");
        let exchange = received(&[ping, texts.concat(), served(CLOSE, "")]).unwrap();
        assert!(exchange.is_complete() && exchange.is_closed());
    }

    #[test]
    fn what_is_lost_repeated_or_mixed_up_is_called_so() {
        for (second, kind) in [
            ("7 3", Failure::Lost),
            ("7 1", Failure::Repeated),
            ("8 2", Failure::MixedUp),
            ("7 4", Failure::Wrong),
        ] {
            let received = received(&[served(TEXT, "7 1"), served(TEXT, second)]);
            assert_eq!(received.map(drop), Err(kind), "{second}");
        }
    }

    #[test]
    fn the_slowest_message_is_known() {
        let begun = Instant::now();
        let mut exchange = Exchange::new(7, 3);
        for (text, took) in [("7 1", 10), ("7 2", 400), ("7 3", 20)] {
            exchange.next_message(begun);
            let mut received = BytesMut::from(&served(TEXT, text)[..]);
            let now = begun + Duration::from_millis(took);
            exchange.receive(&mut received, now).unwrap();
        }
        assert_eq!(exchange.slowest(), Duration::from_millis(400));
    }

    #[test]
    fn a_close_is_answered_once_and_ends_it() {
        let mut exchange = Exchange::new(7, 3);
        let now = Instant::now();
        exchange.next_message(now);
        let mut received = BytesMut::from(&served(CLOSE, "")[..]);
        assert_eq!(exchange.receive(&mut received, now).unwrap().len(), 6);
        assert!(exchange.is_closed() && !exchange.is_complete());
        assert_eq!(exchange.next_message(now), None);
    }

    #[test]
    fn a_close_long_after_a_message_that_has_not_come_back_means_that_it_was_lost() {
        let begun = Instant::now();
        for (after, is_lost) in [(PROMPT / 2, false), (PROMPT, true)] {
            let mut exchange = Exchange::new(7, 3);
            exchange.next_message(begun);
            exchange.next_message(begun + PROMPT / 2);
            let mut received = BytesMut::from(&served(CLOSE, "")[..]);
            let received = exchange.receive(&mut received, begun + after);
            let lost = received.is_err_and(|failed| failed.kind == Failure::Lost);
            assert_eq!(lost, is_lost, "{after:?}");
        }
    }
}
