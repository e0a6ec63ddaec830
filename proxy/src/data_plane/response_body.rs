//! The response body on its way to the client; it keeps the upstream in flight until its end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http_body::{Body, Frame, SizeHint};

pub(super) use super::app_body::InFlight;
use super::app_body::{AppBody, ForwardedBody};
use super::app_http2::reader::StreamReader;
use super::app_reader::AppReader;
use super::event_body::EventBody;
use super::exchange::ResponseReader;
use super::file_body::FileBody;

/// The body of a response to a client.
pub(super) enum ResponseBody {
    /// An empty body, or one that has been sent.
    Empty,
    /// A text by handoff itself.
    Text(Bytes),
    /// The app's body.
    App(AppBody<ResponseReader>),
    /// A body of the app that is not simply that of HTTP/1.
    Special(Box<dyn ForwardedBody>),
    /// A file of an earlier release.
    File(Box<FileBody>),
}

// === impl ResponseBody ===

impl ResponseBody {
    /// Returns the app's body, which is in flight until its end.
    pub(super) fn app<R: AppReader>(reader: R, in_flight: InFlight) -> Self
    where
        Self: From<AppBody<R>>,
    {
        if reader.is_done() {
            in_flight.finish(reader);
            return Self::Empty;
        }
        AppBody::new(reader, in_flight).into()
    }

    /// Returns the app's stream of events, which is in flight until its end. One that is compressed
    /// cannot end early.
    pub(super) fn events<R>(reader: R, in_flight: InFlight, headers: &HeaderMap) -> Self
    where
        R: AppReader + 'static,
        Self: From<AppBody<R>>,
    {
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Self::app(reader, in_flight);
        }
        let retry = in_flight.pool.event_retry();
        let body = AppBody::new(reader, in_flight);
        Self::Special(Box::new(EventBody::new(body, retry)))
    }
}

impl From<AppBody<ResponseReader>> for ResponseBody {
    fn from(body: AppBody<ResponseReader>) -> Self {
        Self::App(body)
    }
}

impl From<AppBody<StreamReader>> for ResponseBody {
    fn from(body: AppBody<StreamReader>) -> Self {
        Self::Special(Box::new(body))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) => {
                let text = std::mem::take(text);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Self::App(body) => {
                let frame = ready!(body.poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    body.in_flight().count(frame);
                }
                let is_done = !matches!(frame, Some(Err(_))) && body.is_done();
                if is_done && let Self::App(body) = std::mem::replace(this, Self::Empty) {
                    body.finish();
                }
                Poll::Ready(frame)
            }
            Self::Special(body) => {
                let frame = ready!(body.poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    body.in_flight().count(frame);
                }
                let is_failed = matches!(frame, Some(Err(_)));
                let is_over = frame.is_none() || (body.is_done() && !is_failed);
                if is_over && let Self::Special(body) = std::mem::replace(this, Self::Empty) {
                    body.end();
                }
                Poll::Ready(frame)
            }
            Self::File(file) => file.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            // A complete body has become `Empty`; a failed one has not ended.
            Self::App(_) | Self::Special(_) => false,
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::App(body) => size_hint(body.remaining()),
            Self::Special(body) => size_hint(body.remaining()),
            Self::File(file) => file.size_hint(),
        }
    }
}

fn size_hint(remaining: Option<u64>) -> SizeHint {
    match remaining {
        Some(length) => SizeHint::with_exact(length),
        None => SizeHint::default(),
    }
}
