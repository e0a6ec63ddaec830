//! An answer's body on its way to the client: collected, passed on, and sometimes cut.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;

use super::activity::Activity;
use super::application::InFlight;

pub(super) type Answer = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Debug)]
pub(super) struct Output {
    pub(super) body: Incoming,
    pub(super) buffer: usize,
    pub(super) activity: Activity,
    pub(super) limit: Duration,
    pub(super) may_truncate: bool,
    pub(super) _in_flight: InFlight,
}

/// The event after the bytes that were collected.
enum Then {
    More,
    End,
    Failure(String),
}

pub(super) fn empty() -> Answer {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(text: String) -> Answer {
    let body = Full::new(Bytes::from(text));
    body.map_err(|never| match never {}).boxed_unsync()
}

// === impl Output ===

impl Output {
    /// The body to answer with, as soon as the buffer has been filled for the first time.
    pub(super) async fn begin(mut self) -> Result<Answer, String> {
        let (first, then) = match self.buffer {
            0 => (Bytes::new(), Then::More),
            _ => self.collect().await,
        };
        match then {
            Then::End => {
                let body = Full::new(first);
                Ok(body.map_err(|never| match never {}).boxed_unsync())
            }
            Then::Failure(reason) => Err(reason),
            Then::More => {
                let (sender, body) = Channel::new(1);
                tokio::spawn(self.pass_on(first, sender));
                Ok(body.boxed_unsync())
            }
        }
    }

    async fn pass_on(mut self, first: Bytes, mut sender: Sender<Bytes, io::Error>) {
        let mut next = (first, Then::More);
        loop {
            let (bytes, then) = next;
            // Only now it is noticed that a client has left.
            if !bytes.is_empty() && sender.send_data(bytes).await.is_err() {
                return;
            }
            match then {
                Then::More => next = self.collect().await,
                Then::Failure(reason) if !self.may_truncate => {
                    return sender.abort(io::Error::other(reason));
                }
                Then::End | Then::Failure(_) => return,
            }
        }
    }

    /// Collects at least as much as the buffer holds, unless it ends before.
    async fn collect(&mut self) -> (Bytes, Then) {
        let mut collected = BytesMut::new();
        loop {
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                () = self.activity.wait_until_idle(self.limit) => {
                    let reason = "the operation timed out".to_owned();
                    return (collected.freeze(), Then::Failure(reason));
                }
            };
            self.activity.moved();
            match frame {
                None => return (collected.freeze(), Then::End),
                Some(Err(error)) => {
                    return (collected.freeze(), Then::Failure(error.to_string()));
                }
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        collected.extend_from_slice(data);
                    }
                }
            }
            if collected.len() >= self.buffer.max(1) {
                return (collected.freeze(), Then::More);
            }
        }
    }
}
