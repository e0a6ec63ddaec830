//! As much of a WebSocket (RFC 6455) as it takes to see that no message is lost. Pure.
//!
//! Each message names its request and its number, so that whatever comes back tells whose it is.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::time::Instant;

use crate::result::{Failed, Failure};

/// The example of RFC 6455, section 1.3, and its answer: nothing here is secret.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Any will do: it is there for broken intermediaries.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Longer ones have another length field; nothing here is so long.
const LONGEST: u8 = 125;

/// A message that was sent so long before the other side's close frame has had the time to come
/// back: on its way it cannot be any more.
const PROMPT: Duration = Duration::from_millis(500);

/// What a client says, and what it has heard.
#[derive(Debug)]
pub struct Talk {
    seq: u64,
    count: u32,
    /// When each message was sent.
    sent: Vec<Instant>,
    heard: u32,
    slowest: Duration,
    close_sent: bool,
    closed: bool,
}

impl Talk {
    /// `count` messages of request `seq`.
    pub fn new(seq: u64, count: u32) -> Self {
        Self {
            seq,
            count,
            sent: Vec::new(),
            heard: 0,
            slowest: Duration::ZERO,
            close_sent: false,
            closed: false,
        }
    }

    /// The next message to send, if one is left and the other side still listens.
    pub fn say(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.said() == self.count || self.close_sent {
            return None;
        }
        self.sent.push(now);
        Some(frame(TEXT, self.message(self.said()).as_bytes()))
    }

    /// Says that no more messages come.
    pub fn close(&mut self) -> Vec<u8> {
        self.close_sent = true;
        frame(CLOSE, &1000_u16.to_be_bytes())
    }

    /// Takes the frames that are there; gives what to answer.
    ///
    /// # Errors
    /// A message is missing, comes again or is not ours, or a frame is none.
    pub fn hear(&mut self, received: &mut BytesMut, now: Instant) -> Result<Vec<u8>, Failed> {
        let mut answers = Vec::new();
        while let Some((opcode, payload)) = take_frame(received)? {
            match opcode {
                TEXT => self.heard_text(&payload, now)?,
                PING => answers.extend(frame(PONG, &payload)),
                PONG => {}
                CLOSE => {
                    self.closed = true;
                    self.owes_nothing(now)?;
                    if !self.close_sent {
                        self.close_sent = true;
                        answers.extend(frame(CLOSE, &payload));
                    }
                }
                _ => return Err(wrong(format!("a WebSocket's frame of kind {opcode:#x}"))),
            }
        }
        Ok(answers)
    }

    /// The longest that a message took to come back.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Every message has come back.
    pub fn is_complete(&self) -> bool {
        self.heard == self.count
    }

    /// The other side has said that nothing more comes. What was on its way to it by then, it did
    /// not promise to echo.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn owes_nothing(&self, now: Instant) -> Result<(), Failed> {
        let oldest = self.sent.get(self.heard as usize);
        match oldest.map(|sent| now.duration_since(*sent)) {
            Some(age) if age >= PROMPT => {
                let detail = format!(
                    "a close frame {age:?} after {:?} was sent, which has not come back",
                    self.message(self.heard + 1)
                );
                Err(Failed::new(Failure::Lost, detail))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn said(&self) -> u32 {
        self.sent.len() as u32
    }

    fn heard_text(&mut self, payload: &[u8], now: Instant) -> Result<(), Failed> {
        let expected = self.message(self.heard + 1);
        let sent = self.sent.get(self.heard as usize);
        if let Some(sent) = sent
            && payload == expected.as_bytes()
            && !self.closed
        {
            self.slowest = self.slowest.max(now.duration_since(*sent));
            self.heard += 1;
            return Ok(());
        }
        let said = String::from_utf8_lossy(payload);
        let number = said
            .strip_prefix(&format!("{} ", self.seq))
            .and_then(|number| number.parse::<u32>().ok());
        let kind = match number {
            Some(number) if number > self.said() => Failure::Wrong,
            Some(number) if number > self.heard + 1 => Failure::Lost,
            Some(_) => Failure::Repeated,
            None => Failure::MixedUp,
        };
        Err(Failed::new(
            kind,
            format!("message {said:?} where {expected:?} should have come"),
        ))
    }

    fn message(&self, number: u32) -> String {
        format!("{} {number}", self.seq)
    }
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().min(LONGEST.into());
    let masked = payload.iter().zip(MASK.iter().cycle()).take(length);
    let mut frame = vec![FINAL | opcode, MASKED | length as u8];
    frame.extend(MASK);
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

fn take_frame(received: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, Failed> {
    let [first, length, ..] = received[..] else {
        return Ok(None);
    };
    if first & FINAL == 0 || length > LONGEST {
        return Err(wrong(format!(
            "a WebSocket's frame that begins with {first:#x} {length:#x}"
        )));
    }
    let length = usize::from(length);
    if received.len() < 2 + length {
        return Ok(None);
    }
    received.advance(2);
    Ok(Some((first & 0x0f, received.split_to(length))))
}

fn wrong(detail: String) -> Failed {
    Failed::new(Failure::Wrong, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server sends: not masked.
    fn served(opcode: u8, payload: &str) -> Vec<u8> {
        let mut frame = vec![FINAL | opcode, payload.len() as u8];
        frame.extend_from_slice(payload.as_bytes());
        frame
    }

    fn heard(frames: &[Vec<u8>]) -> Result<Talk, Failure> {
        let mut talk = Talk::new(7, 3);
        let now = Instant::now();
        while talk.say(now).is_some() {}
        let mut received = BytesMut::new();
        for byte in frames.concat() {
            received.extend_from_slice(&[byte]);
            talk.hear(&mut received, now)
                .map_err(|failed| failed.kind)?;
        }
        Ok(talk)
    }

    #[test]
    fn a_message_is_masked_and_names_its_request() {
        let mut talk = Talk::new(7, 1);
        let frame = talk.say(Instant::now()).unwrap();
        assert_eq!(frame[..2], [0x81, 0x83]);
        let text: Vec<u8> = (frame[6..].iter().zip(MASK)).map(|(a, b)| a ^ b).collect();
        assert_eq!(text, b"7 1");
        assert_eq!(talk.say(Instant::now()), None);
    }

    #[test]
    fn all_messages_in_order_are_complete() {
        let texts = ["7 1", "7 2", "7 3"].map(|text| served(TEXT, text));
        let talk = heard(&texts).unwrap();
        assert!(talk.is_complete() && !talk.is_closed());
        let talk = heard(&[served(PING, "?"), texts.concat(), served(CLOSE, "")]).unwrap();
        assert!(talk.is_complete() && talk.is_closed());
    }

    #[test]
    fn what_is_lost_repeated_or_mixed_up_is_called_so() {
        for (second, kind) in [
            ("7 3", Failure::Lost),
            ("7 1", Failure::Repeated),
            ("8 2", Failure::MixedUp),
            ("7 4", Failure::Wrong),
        ] {
            let heard = heard(&[served(TEXT, "7 1"), served(TEXT, second)]);
            assert_eq!(heard.map(drop), Err(kind), "{second}");
        }
    }

    #[test]
    fn the_slowest_message_is_known() {
        let begun = Instant::now();
        let mut talk = Talk::new(7, 3);
        for (text, took) in [("7 1", 10), ("7 2", 400), ("7 3", 20)] {
            talk.say(begun);
            let mut received = BytesMut::from(&served(TEXT, text)[..]);
            let now = begun + Duration::from_millis(took);
            talk.hear(&mut received, now).unwrap();
        }
        assert_eq!(talk.slowest(), Duration::from_millis(400));
    }

    #[test]
    fn a_close_is_answered_once_and_ends_it() {
        let mut talk = Talk::new(7, 3);
        let now = Instant::now();
        talk.say(now);
        let mut received = BytesMut::from(&served(CLOSE, "")[..]);
        assert_eq!(talk.hear(&mut received, now).unwrap().len(), 6);
        assert!(talk.is_closed() && !talk.is_complete());
        assert_eq!(talk.say(now), None);
    }

    #[test]
    fn a_close_long_after_a_message_that_has_not_come_back_means_that_it_was_lost() {
        let begun = Instant::now();
        for (after, is_lost) in [(PROMPT / 2, false), (PROMPT, true)] {
            let mut talk = Talk::new(7, 3);
            talk.say(begun);
            talk.say(begun + PROMPT / 2);
            let mut received = BytesMut::from(&served(CLOSE, "")[..]);
            let heard = talk.hear(&mut received, begun + after);
            let lost = heard.is_err_and(|failed| failed.kind == Failure::Lost);
            assert_eq!(lost, is_lost, "{after:?}");
        }
    }
}
