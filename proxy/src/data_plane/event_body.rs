//! A stream of server-sent events, which ends between two events when its tunnel is to close.
//!
//! A client that loses its connection within an event drops that event, and comes back with the id of
//! the one before. Between two events nothing is lost, and the client does not see a failure.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;

use super::app_body::{AppBody, ForwardedBody, InFlight};
use super::app_reader::AppReader;

/// The body of a stream of events.
pub(super) struct EventBody<R> {
    body: AppBody<R>,
    place: EventPlace,
    /// Time after which its client is to come back; written once, at an end by handoff.
    retry: Option<Duration>,
}

/// The place in a stream of events: a blank line ends an event, and lines end with CR, LF or both
/// (HTML standard, section 9.2.5).
#[derive(Clone, Copy, Debug)]
struct EventPlace {
    is_line_empty: bool,
    is_behind_cr: bool,
    is_between_events: bool,
}

// === impl EventBody ===

impl<R: AppReader> EventBody<R> {
    pub(super) fn new(body: AppBody<R>, retry: Option<Duration>) -> Self {
        Self {
            body,
            place: EventPlace::START,
            retry,
        }
    }

    fn is_closing(&self) -> bool {
        self.body.is_closing()
    }
}

impl<R: AppReader> ForwardedBody for EventBody<R> {
    /// Returns the next part of the stream; at the end of its last whole event once the tunnel is to
    /// close, the time to come back and then `None`.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_closing() && self.place.is_between_events {
            let retry = self
                .retry
                .take()
                .map(|time| Ok(Frame::data(retry_field(time))));
            return Poll::Ready(retry);
        }
        let frame = ready!(self.body.poll_frame(cx));
        let data = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => data,
            Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        };
        let last_end = self.place.advance(&data);
        let data = match last_end {
            Some(end) if self.is_closing() => {
                self.place = EventPlace::START;
                data.slice(..end)
            }
            Some(_) | None => data,
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_done(&self) -> bool {
        self.body.is_done()
    }

    fn remaining(&self) -> Option<u64> {
        None
    }

    fn in_flight(&self) -> &InFlight {
        self.body.in_flight()
    }

    fn end(self: Box<Self>) {
        self.body.end();
    }
}

/// Returns a block with the time after which a client comes back; it is no event (HTML standard,
/// section 9.2.6).
fn retry_field(time: Duration) -> Bytes {
    format!("retry: {}\n\n", time.as_millis()).into()
}

// === impl EventPlace ===

impl EventPlace {
    const START: Self = Self {
        is_line_empty: true,
        is_behind_cr: false,
        is_between_events: true,
    };

    /// Goes on behind `data`. Returns the end of the last event that ends there.
    fn advance(&mut self, data: &[u8]) -> Option<usize> {
        let mut last_end = None;
        for (place, &byte) in data.iter().enumerate() {
            match byte {
                // The second half of a line's end.
                b'\n' if self.is_behind_cr => {
                    self.is_behind_cr = false;
                    if self.is_between_events {
                        last_end = Some(place + 1);
                    }
                }
                b'\r' | b'\n' => {
                    self.is_behind_cr = byte == b'\r';
                    if self.is_line_empty {
                        self.is_between_events = true;
                        last_end = Some(place + 1);
                    }
                    self.is_line_empty = true;
                }
                _ => {
                    *self = Self {
                        is_line_empty: false,
                        is_behind_cr: false,
                        is_between_events: false,
                    };
                }
            }
        }
        last_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the end of the last event in each part, and whether the last one ends between two.
    fn ends(parts: &[&str]) -> (Vec<Option<usize>>, bool) {
        let mut place = EventPlace::START;
        let ends = parts.iter().map(|part| place.advance(part.as_bytes()));
        (ends.collect(), place.is_between_events)
    }

    #[test]
    fn an_event_ends_behind_a_blank_line_whatever_ends_the_lines() {
        for (parts, last, is_between) in [
            (&["data: a\n\n"][..], Some(9), true),
            (&["data: a\r\n\r\n"], Some(11), true),
            (&["data: a\r\r"], Some(9), true),
            (&["data: a\n\ndata: b"], Some(9), false),
            (&["data: a\n\ndata: b\n"], Some(9), false),
            (&["data: a\n", "\n"], Some(1), true),
            (&["data: a\r\n\r", "\n"], Some(1), true),
            (&["data: a\r", "\ndata: b\r\n"], None, false),
            (&[": alive\n\n", "id: 1\n"], None, false),
            (&["data: a\n\n\n"], Some(10), true),
            (&[], None, true),
        ] {
            let (ends, ended_between) = ends(parts);
            let last_end = ends.last().copied().flatten();
            assert_eq!((last_end, ended_between), (last, is_between), "{parts:?}");
        }
    }
}
