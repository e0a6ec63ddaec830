//! The boundaries of WebSocket frames.

use handoff::data_plane::websocket::{FrameTracker, Sender, close_frame};
use proptest::prelude::*;

/// Frames by their payload's length and whether they are masked; where the stream is cut; and
/// bytes that are anything.
pub(super) fn stream() -> impl Strategy<Value = (Vec<(u32, bool, u8)>, usize, Vec<u8>)> {
    let length = prop_oneof![
        6 => 0..140_u32,
        1 => 65_500..65_600_u32,
        1 => 0..3_000_u32,
    ];
    let frames = proptest::collection::vec((length, any::<bool>(), any::<u8>()), 0..4);
    (
        frames,
        1..300_usize,
        proptest::collection::vec(any::<u8>(), 0..64),
    )
}

/// Every frame ends where it ends, however the stream is cut; and no bytes stop it.
pub(super) fn advance(
    (lengths, piece, junk): (Vec<(u32, bool, u8)>, usize, Vec<u8>),
) -> Result<(), TestCaseError> {
    let (mut stream, mut ends) = (Vec::new(), Vec::new());
    for (length, is_masked, first) in lengths {
        let mask = if is_masked { 0x80 } else { 0 };
        stream.push(first);
        match length {
            0..126 => stream.push(mask | length as u8),
            126..65_536 => {
                stream.push(mask | 126);
                stream.extend((length as u16).to_be_bytes());
            }
            _ => {
                stream.push(mask | 127);
                stream.extend(u64::from(length).to_be_bytes());
            }
        }
        let mask_length = if is_masked { 4 } else { 0 };
        stream.resize(stream.len() + mask_length + length as usize, first);
        ends.push(stream.len());
    }
    prop_assert_eq!(ends_of(&stream, piece)?, ends);
    ends_of(&junk, piece)?;
    for sender in [Sender::Client, Sender::Server] {
        let close = close_frame(sender, 1001);
        prop_assert_eq!(ends_of(&close, piece)?, [close.len()]);
    }
    Ok(())
}

fn ends_of(stream: &[u8], piece: usize) -> Result<Vec<usize>, TestCaseError> {
    let (mut tracker, mut ends, mut position) = (FrameTracker::default(), Vec::new(), 0);
    for mut piece in stream.chunks(piece) {
        while !piece.is_empty() {
            let taken = tracker.advance(piece);
            prop_assert!(0 < taken && taken <= piece.len());
            position += taken;
            piece = &piece[taken..];
            if tracker.is_at_boundary() {
                ends.push(position);
            } else {
                prop_assert!(piece.is_empty(), "it stops between two frames only");
            }
        }
    }
    Ok(ends)
}
