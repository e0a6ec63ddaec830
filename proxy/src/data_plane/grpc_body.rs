//! The responses of gRPC calls, which end with a status that tells the client to call again.
//!
//! A stream of messages has no natural end. When it is to close, it ends between two messages; one that
//! is cut, or whose app dies, ends within one. Both have a status, as a reset would be taken for a
//! fault of the call.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::app_body::{AppBody, ForwardedBody, InFlight};
use super::app_http2::reader::{AppReset, StreamReader};

/// Length of what precedes a message: a flag and the length of the message.
const PREFIX: usize = 5;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status of a call by handoff itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcStatus {
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    Unimplemented,
    Internal,
    Unavailable,
}

/// The body of a response that consists of messages.
pub(super) struct GrpcBody {
    body: AppBody<StreamReader>,
    place: MessagePlace,
    has_ended: bool,
}

/// The place in a sequence of messages.
#[derive(Clone, Copy, Debug, Default)]
struct MessagePlace {
    prefix: [u8; PREFIX],
    /// Number of bytes of the prefix that have been seen.
    seen: usize,
    /// Number of bytes of the message that are still to come.
    rest: usize,
}

// === impl GrpcStatus ===

impl GrpcStatus {
    /// Returns the fields of a call that ends so.
    pub(super) fn fields(self, message: &str) -> HeaderMap {
        let code = match self {
            Self::Cancelled => "1",
            Self::DeadlineExceeded => "4",
            Self::ResourceExhausted => "8",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
        };
        let mut fields = HeaderMap::new();
        fields.insert(&GRPC_STATUS, HeaderValue::from_static(code));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
            fields.insert(&GRPC_MESSAGE, message);
        }
        fields
    }
}

/// Returns a message as a field carries it (gRPC over HTTP/2, `Percent-Encoded`).
fn percent_encoded(message: &str) -> String {
    let encoded = message.bytes().map(|byte| match byte {
        b'%' => "%25".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

// === impl GrpcBody ===

impl GrpcBody {
    pub(super) fn new(body: AppBody<StreamReader>) -> Self {
        Self {
            body,
            place: MessagePlace::default(),
            has_ended: false,
        }
    }

    fn end_as_unavailable(&mut self, message: &str) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.has_ended = true;
        let trailers = GrpcStatus::Unavailable.fields(message);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl ForwardedBody for GrpcBody {
    /// Returns the next part of the response; a status in place of an end that the app has not chosen.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if self.body.is_closing() && self.place.is_between_messages() {
            return self.end_as_unavailable("the release that worked on this was replaced");
        }
        let frame = ready!(self.body.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.place.advance(data);
                }
            }
            Some(Err(error)) if is_reset_by_app(error) => {}
            Some(Err(_)) => {
                return self.end_as_unavailable("the application ended in the middle of this");
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_done(&self) -> bool {
        self.has_ended || self.body.is_done()
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

fn is_reset_by_app(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<AppReset>())
}

// === impl MessagePlace ===

impl MessagePlace {
    fn is_between_messages(self) -> bool {
        self.seen == 0 && self.rest == 0
    }

    fn advance(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(data.len());
                self.rest -= taken;
                data = &data[taken..];
                continue;
            }
            self.prefix[self.seen] = data[0];
            self.seen += 1;
            data = &data[1..];
            if self.seen == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.rest = u32::from_be_bytes(length) as usize;
                self.seen = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_between_messages_behind_each_of_them_however_they_are_cut() {
        let messages = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01z";
        let ends = [0, 8, 13, 19];
        let mut place = MessagePlace::default();
        for (end, byte) in messages.iter().enumerate() {
            assert_eq!(place.is_between_messages(), ends.contains(&end), "{end}");
            place.advance(&[*byte]);
        }
        assert!(place.is_between_messages());
        let mut place = MessagePlace::default();
        place.advance(messages);
        assert!(place.is_between_messages());
        place.advance(&messages[..7]);
        assert!(!place.is_between_messages());
    }

    #[test]
    fn a_message_is_encoded_as_its_field_demands() {
        assert_eq!(percent_encoded("50 % \u{fc}\n"), "50 %25 %C3%BC%0A");
    }
}
