//! The sending half of a stream.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http_body::Body as _;

use crate::data_plane::app_connection::{ConnectionHandle, CutCause};
use crate::data_plane::exchange::UploadTask;
use crate::data_plane::request_body::{BodyError, KeptBody, RequestBody};

/// The sending half of a stream.
pub(super) struct StreamUpload {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// The part that has been sent, while it may have to be sent again.
    kept: KeptBody,
    /// A response has begun: the response timer is not started again.
    has_response: bool,
    state: UploadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadState {
    /// More of the body is to come.
    Body,
    /// All is sent.
    Done,
    /// The app takes no more. Its response may have arrived before, so this alone is no failure.
    Refused,
}

// === impl StreamUpload ===

impl StreamUpload {
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody, is_whole: bool) -> Self {
        Self {
            stream,
            body,
            kept: KeptBody::default(),
            has_response: false,
            state: if is_whole {
                UploadState::Done
            } else {
                UploadState::Body
            },
        }
    }

    /// Sends as much as the app takes. Ready when all is sent, or no more will be taken; an error is
    /// the client's.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        handle: &ConnectionHandle,
    ) -> Poll<Result<(), BodyError>> {
        while self.state == UploadState::Body {
            // What the app does not take is not read from the client.
            self.stream.reserve_capacity(1);
            if self.stream.poll_reset(cx).is_ready() {
                self.state = UploadState::Refused;
                break;
            }
            if self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => {
                        self.state = UploadState::Refused;
                        break;
                    }
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // The app has all that the client has sent.
                handle.stop_response_timer();
                return Poll::Pending;
            };
            if !self.has_response {
                handle.start_response_timer();
            }
            let frame = frame.transpose()?;
            self.send(frame, self.body.is_end_stream());
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a part of the body; none is its end.
    ///
    /// Its last frame is that of the last part, if that is known by then, and no other one is empty: an
    /// app counts small frames that are not the last one, and may end the connection after some, with
    /// the requests of all clients.
    fn send(&mut self, frame: Option<http_body::Frame<Bytes>>, is_last: bool) {
        let sent = match frame.map(http_body::Frame::into_data) {
            None => {
                self.state = UploadState::Done;
                self.stream.send_data(Bytes::new(), true)
            }
            Some(Ok(data)) if data.is_empty() && !is_last => return,
            Some(Ok(data)) => {
                if !self.has_response {
                    self.kept.add(&data);
                }
                if is_last {
                    self.state = UploadState::Done;
                }
                self.stream.send_data(data, is_last)
            }
            Some(Err(other)) => {
                let Ok(trailers) = other.into_trailers() else {
                    return;
                };
                self.kept.lose();
                self.state = UploadState::Done;
                self.stream.send_trailers(trailers)
            }
        };
        if sent.is_err() {
            self.state = UploadState::Refused;
        }
    }

    /// Returns the stream, on which nothing was sent behind the head.
    pub(super) fn into_stream(self) -> SendStream<Bytes> {
        self.stream
    }

    /// Returns the whole body, to send it again, unless too much of it was sent.
    pub(super) fn into_body(self) -> Option<RequestBody> {
        self.body.after(self.kept)
    }

    /// Spawns a task that sends the rest beside the response.
    pub(super) fn detach(mut self, handle: &Rc<ConnectionHandle>) -> Option<UploadTask> {
        if self.state == UploadState::Done {
            return None;
        }
        self.has_response = true;
        self.kept = KeptBody::default();
        let is_refused = self.state == UploadState::Refused;
        self.body.continue_beside_response(is_refused);
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        let handle = Rc::clone(handle);
        let task = tokio::task::spawn_local(async move {
            let sent = poll_fn(|cx| self.poll(cx, &handle)).await;
            if sent.is_err() {
                // Neither end may take its half of the exchange for complete.
                handle.cut(CutCause::BrokenRequest);
            }
            done.set(sent.is_ok() && self.state == UploadState::Done);
        });
        Some(UploadTask::new(is_done, task))
    }
}
