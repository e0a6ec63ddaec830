//! Boundaries of WebSocket frames (RFC 6455, section 5.2).
//!
//! Pure. A tunnel passes frames on as they come, and parses only their lengths, so that it can
//! insert a close frame between two of them.

use http::HeaderValue;

/// The protocol of WebSockets, in `Upgrade` and in `:protocol`.
pub const PROTOCOL: &str = "websocket";

const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// The position in one direction's stream of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameTracker {
    state: FrameState,
}

/// The sender of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client; its frames are masked.
    Client,
    /// The server; its frames are not.
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameState {
    /// A head, with its bytes so far and their number; they are needed until the length is known.
    Head([u8; 14], u8),
    /// A payload, with the number of bytes to come.
    Payload(u64),
}

/// Returns `true` if this is what `Upgrade` says of WebSockets, in any case (RFC 6455, section 4.2.1).
pub fn is_protocol(field: &HeaderValue) -> bool {
    field.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes())
}

// === impl FrameTracker ===

impl FrameTracker {
    /// Advances to the end of the present frame, and returns the number of bytes taken.
    ///
    /// These are all of them, unless the frame ends before. Between two frames it takes a part of
    /// the next.
    pub fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            match &mut self.state {
                FrameState::Head(head, length) => {
                    head[usize::from(*length)] = bytes[taken];
                    *length += 1;
                    taken += 1;
                    if let Some(payload) = payload_length(&head[..usize::from(*length)]) {
                        self.state = FrameState::Payload(payload);
                    }
                }
                FrameState::Payload(left) => {
                    let here =
                        (bytes.len() - taken).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    taken += here;
                }
            }
            if self.state == FrameState::Payload(0) {
                self.state = FrameState::default();
                break;
            }
        }
        taken
    }

    /// Returns `true` between two frames: another one may be inserted here.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, FrameState::Head(_, 0))
    }
}

impl Default for FrameState {
    fn default() -> Self {
        Self::Head([0; 14], 0)
    }
}

/// Returns the payload's length, once the head is complete.
fn payload_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & MASKED == 0 { 0 } else { 4 };
    let (length, more) = match second & !MASKED {
        126 => (
            u64::from(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?)),
            2,
        ),
        127 => (u64::from_be_bytes(head.get(2..10)?.try_into().ok()?), 8),
        short => (u64::from(short), 0),
    };
    (head.len() == 2 + more + mask).then_some(length)
}

/// Returns a close frame of this status. A client's frames have to be masked; a mask of zeros is one.
pub fn close_frame(sender: Sender, status: u16) -> Vec<u8> {
    let [high, low] = status.to_be_bytes();
    match sender {
        Sender::Client => vec![CLOSE, MASKED | 2, 0, 0, 0, 0, high, low],
        Sender::Server => vec![CLOSE, 2, high, low],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { MASKED } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0, if is_masked { 4 } else { 0 }));
        frame.extend(std::iter::repeat_n(0xff, payload));
        frame
    }

    #[test]
    fn our_own_close_frames_are_frames() {
        for sender in [Sender::Client, Sender::Server] {
            let close = close_frame(sender, 1001);
            let mut frames = FrameTracker::default();
            assert_eq!(frames.advance(&close), close.len());
            assert!(frames.is_at_boundary());
        }
    }

    proptest! {
        #[test]
        fn every_frame_ends_where_it_ends(
            payloads in proptest::collection::vec((0_usize..70_000, any::<bool>()), 1..5),
            piece in 1_usize..9_000,
        ) {
            let frames: Vec<_> = payloads.iter().map(|&(n, masked)| frame(n, masked)).collect();
            let mut ends = Vec::new();
            let mut position = 0;
            for frame in &frames {
                position += frame.len();
                ends.push(position);
            }
            let stream = frames.concat();
            let (mut seen, mut position) = (Vec::new(), 0);
            let mut tracker = FrameTracker::default();
            for mut piece in stream.chunks(piece) {
                while !piece.is_empty() {
                    let taken = tracker.advance(piece);
                    prop_assert!(taken > 0);
                    position += taken;
                    piece = &piece[taken..];
                    if tracker.is_at_boundary() {
                        seen.push(position);
                    }
                }
            }
            prop_assert_eq!(seen, ends);
        }

        #[test]
        fn no_bytes_panic_and_all_are_taken(bytes: Vec<u8>) {
            let mut tracker = FrameTracker::default();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let taken = tracker.advance(rest);
                prop_assert!(taken > 0);
                rest = &rest[taken..];
            }
        }
    }
}
