//! A request and its response, of either protocol, at a client and at the app: byte by byte, and frame by
//! frame.

use std::sync::atomic::Ordering;

use http::StatusCode;
use tests::http2::frames::{
    DATA, END_HEADERS, END_STREAM, FrameWire, HEADERS, RST_STREAM, Received, frame,
};
use tests::http2::heads::{NO_TABLE, decode_request, decode_response, decode_trailers, encode};
use tests::stage::{Stage, Wire};

use crate::http2_app::App;

/// The reason `CANCEL` of a reset.
pub(crate) const CANCEL: u32 = 8;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}
/// A handoff with an app of one protocol.
pub(crate) enum Server {
    Http1(Stage),
    Http2(App),
}

/// A request and its response, as its client or the app sees it.
pub(crate) enum Exchange {
    Http1(Wire),
    Http2 { wire: FrameWire, stream: u32 },
}

/// A head as HTTP/1 has it, and as HTTP/2 has it.
pub(crate) type Both<'a> = (&'a str, &'a str);

// === impl Server ===

impl Server {
    #[track_caller]
    pub(crate) fn new(protocol: Protocol, options: &[(&str, &str)]) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(Stage::with(options)),
            Protocol::Http2 => {
                let app = App::with(options);
                app.is_raw.store(true, Ordering::SeqCst);
                Self::Http2(app)
            }
        }
    }

    pub(crate) fn stage(&self) -> &Stage {
        match self {
            Self::Http1(stage) => stage,
            Self::Http2(app) => &app.stage,
        }
    }

    /// A new client.
    #[track_caller]
    pub(crate) fn client(&self, protocol: Protocol) -> Exchange {
        match protocol {
            Protocol::Http1 => Exchange::Http1(self.stage().client()),
            Protocol::Http2 => {
                let address = self.stage().site().address();
                let wire = FrameWire::connect_with(address, &[NO_TABLE]);
                let mut wire = wire.expect("a connection");
                let stream = wire.next_stream();
                Exchange::Http2 { wire, stream }
            }
        }
    }

    /// The app's end of the next request, which comes on a new connection.
    #[track_caller]
    pub(crate) fn app(&self) -> Exchange {
        match self {
            Self::Http1(stage) => Exchange::Http1(stage.app()),
            Self::Http2(app) => {
                let wire = FrameWire::accept(app.connection(), &[NO_TABLE]);
                let wire = wire.expect("a connection");
                Exchange::Http2 { wire, stream: 1 }
            }
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Sends the head of a request, which is all of it or not.
    #[track_caller]
    pub(crate) fn request(&mut self, method: &str, fields: &[(&str, &str)], is_whole: bool) {
        match self {
            Self::Http1(wire) => {
                let first = format!("{method} /a?b HTTP/1.1\r\nHost: a\r\n");
                wire.send(head_of(first, fields, is_whole));
            }
            Self::Http2 { .. } => {
                let first = [
                    (":method", method),
                    (":scheme", "http"),
                    (":authority", "a"),
                ];
                let fields = [&first[..], &[(":path", "/a?b")], fields].concat();
                self.send_fields(&fields, is_whole);
            }
        }
    }

    /// Sends the head of a response, which is all of it or not.
    #[track_caller]
    pub(crate) fn respond(&mut self, status: &str, fields: &[(&str, &str)], is_whole: bool) {
        match self {
            Self::Http1(wire) => {
                let known: StatusCode = status.parse().expect("a status");
                let first = format!("HTTP/1.1 {known}\r\n");
                wire.send(head_of(first, fields, is_whole));
            }
            Self::Http2 { .. } => {
                let fields = [&[(":status", status)], fields].concat();
                self.send_fields(&fields, is_whole);
            }
        }
    }

    /// Sends fields, whatever they are, in a frame.
    #[track_caller]
    pub(crate) fn send_fields(&mut self, fields: &[(&str, &str)], is_last: bool) {
        let flags = if is_last {
            END_STREAM | END_HEADERS
        } else {
            END_HEADERS
        };
        self.send_frame(HEADERS, flags, &encode(fields));
    }

    #[track_caller]
    pub(crate) fn send_frame(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let Self::Http2 { wire, stream } = self else {
            panic!("a frame of HTTP/1");
        };
        wire.send(&frame(kind, flags, *stream, payload))
            .expect("it is sent");
    }

    #[track_caller]
    pub(crate) fn send_data(&mut self, text: &str) {
        match self {
            Self::Http1(wire) => wire.send(format!("{:x}\r\n{text}\r\n", text.len())),
            Self::Http2 { .. } => self.send_frame(DATA, 0, text.as_bytes()),
        }
    }

    /// Sends the end of the body, and trailers.
    #[track_caller]
    pub(crate) fn send_trailers(&mut self, name: &str, value: &str) {
        match self {
            Self::Http1(wire) => wire.send(format!("0\r\n{name}: {value}\r\n\r\n")),
            Self::Http2 { .. } => self.send_fields(&[(name, value)], true),
        }
    }

    #[track_caller]
    fn next(&mut self) -> Received {
        let Self::Http2 { wire, stream } = self else {
            panic!("a frame of HTTP/1");
        };
        let got = wire.receive_of_stream().expect("a frame");
        assert_eq!(got.stream, *stream, "{got:?}");
        got
    }

    /// Receives the head of a request, whatever it says.
    #[track_caller]
    pub(crate) fn receive_request(&mut self) {
        match self {
            Self::Http1(wire) => drop(wire.head()),
            Self::Http2 { .. } => assert_eq!(self.next().kind, HEADERS),
        }
    }

    /// Receives the head of a request; in HTTP/2 it is all of it or not.
    #[track_caller]
    pub(crate) fn expect_request(&mut self, (http1, http2): Both<'_>, is_whole: bool) {
        match self {
            Self::Http1(wire) => assert_eq!(in_order(&wire.head()), in_order(http1)),
            Self::Http2 { .. } => {
                let got = self.next();
                assert_eq!(got.kind, HEADERS);
                assert_eq!(decode_request(&got.payload), http2);
                assert_eq!(got.flags & END_STREAM != 0, is_whole);
            }
        }
    }

    /// Receives the head of a response, but for its date; in HTTP/2 it is all of it or not.
    #[track_caller]
    pub(crate) fn expect_response(&mut self, (http1, http2): Both<'_>, is_whole: bool) {
        match self {
            Self::Http1(wire) => assert_eq!(in_order(&wire.answer_head()), in_order(http1)),
            Self::Http2 { .. } => {
                let got = self.next();
                assert_eq!(got.kind, HEADERS, "{got:?}");
                let head = decode_response(&got.payload);
                let lines = head.split_inclusive('\n');
                let lines = lines.filter(|line| !line.starts_with("date: "));
                assert_eq!(lines.collect::<String>(), http2);
                assert_eq!(got.flags & END_STREAM != 0, is_whole);
            }
        }
    }

    /// Receives the status of a response, whatever it says.
    #[track_caller]
    pub(crate) fn expect_status(&mut self, status: u16) {
        match self {
            Self::Http1(wire) => drop(wire.expect_refusal(status)),
            Self::Http2 { .. } => {
                let got = self.next();
                assert_eq!(got.kind, HEADERS, "{got:?}");
                let head = decode_response(&got.payload);
                assert!(head.starts_with(&format!(":status {status}\n")), "{head}");
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect_data(&mut self, text: &str) {
        match self {
            Self::Http1(wire) => assert_eq!(wire.chunk(), text),
            Self::Http2 { .. } => {
                let got = self.next();
                assert_eq!((got.kind, got.flags), (DATA, 0), "{got:?}");
                assert_eq!(got.payload, text.as_bytes());
            }
        }
    }

    /// Receives the last part of a body of HTTP/2, in one frame with its end.
    #[track_caller]
    pub(crate) fn expect_last_data(&mut self, text: &str) {
        let got = self.next();
        assert_eq!((got.kind, got.flags), (DATA, END_STREAM), "{got:?}");
        assert_eq!(got.payload, text.as_bytes());
    }

    #[track_caller]
    pub(crate) fn expect_trailers(&mut self, name: &str, value: &str) {
        match self {
            Self::Http1(wire) => wire.expect(format!("0\r\n{name}: {value}\r\n\r\n")),
            Self::Http2 { .. } => {
                let got = self.next();
                assert_eq!(
                    (got.kind, got.flags),
                    (HEADERS, END_STREAM | END_HEADERS),
                    "{got:?}"
                );
                assert_eq!(decode_trailers(&got.payload), format!("{name}: {value}\n"));
            }
        }
    }

    /// Ends the exchange early, and with it the connection of HTTP/1.
    #[track_caller]
    pub(crate) fn cancel(self) -> Option<FrameWire> {
        match self {
            Self::Http1(wire) => {
                wire.reset();
                None
            }
            Self::Http2 { mut wire, stream } => {
                let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
                wire.send(&reset).expect("it is sent");
                Some(wire)
            }
        }
    }

    /// Waits for the other end to break off, soon.
    #[track_caller]
    pub(crate) fn expect_cancelled(&mut self, reason: u32) {
        match self {
            Self::Http1(wire) => drop(wire.await_end_soon()),
            Self::Http2 { .. } => {
                let got = self.next();
                assert_eq!(got.kind, RST_STREAM, "{got:?}");
                assert_eq!(got.payload, reason.to_be_bytes());
            }
        }
    }
}

/// Returns a head of HTTP/1 that goes on with these fields, and says that a body follows or does not.
fn head_of(mut head: String, fields: &[(&str, &str)], is_whole: bool) -> String {
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    if !is_whole {
        head += "Transfer-Encoding: chunked\r\n";
    }
    head + "\r\n"
}

/// Returns a head of HTTP/1 with its fields in the order of their names.
fn in_order(head: &str) -> String {
    let mut lines: Vec<_> = head.split_inclusive("\r\n").collect();
    let end = lines.len() - 1;
    lines[1..end].sort_unstable();
    lines.concat()
}
