//! The response body on its way to the client; it keeps the upstream in flight until its end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http_body::{Body, Frame, SizeHint};

use super::app_body::AppBody;
pub(super) use super::app_body::InFlight;
use super::app_http2::reader::StreamReader;
use super::app_reader::AppReader;
use super::event_body::EventBody;
use super::exchange::ResponseReader;
use super::file_body::FileBody;
use super::grpc_body::GrpcBody;

/// The body of a response to a client.
pub(super) enum ResponseBody {
    /// An empty body, or one that has been sent.
    Empty,
    /// A text by handoff itself.
    Text(Bytes),
    /// The app's body.
    App(AppBody<ResponseReader>),
    /// The app's stream of events.
    Events(Box<EventBody<ResponseReader>>),
    /// The same two from an app that speaks HTTP/2.
    StreamApp(Box<AppBody<StreamReader>>),
    StreamEvents(Box<EventBody<StreamReader>>),
    /// The messages of a gRPC call.
    Grpc(Box<GrpcBody>),
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

    /// Returns the app's stream of events, which is in flight until its end. One whose length is
    /// known, or that is compressed, cannot end early.
    pub(super) fn events<R: AppReader>(reader: R, in_flight: InFlight, headers: &HeaderMap) -> Self
    where
        Self: From<AppBody<R>> + From<EventBody<R>>,
    {
        if reader.remaining().is_some() || headers.contains_key(header::CONTENT_ENCODING) {
            return Self::app(reader, in_flight);
        }
        let body = AppBody::new(reader, in_flight);
        EventBody::new(body).into()
    }
}

impl From<AppBody<ResponseReader>> for ResponseBody {
    fn from(body: AppBody<ResponseReader>) -> Self {
        Self::App(body)
    }
}

impl From<EventBody<ResponseReader>> for ResponseBody {
    fn from(events: EventBody<ResponseReader>) -> Self {
        Self::Events(Box::new(events))
    }
}

impl From<AppBody<StreamReader>> for ResponseBody {
    fn from(body: AppBody<StreamReader>) -> Self {
        Self::StreamApp(Box::new(body))
    }
}

impl From<EventBody<StreamReader>> for ResponseBody {
    fn from(events: EventBody<StreamReader>) -> Self {
        Self::StreamEvents(Box::new(events))
    }
}

/// Returns the next part of the app's body, and `true` if nothing follows it.
fn poll_app<R: AppReader>(
    body: &mut AppBody<R>,
    cx: &mut Context<'_>,
) -> Poll<(Option<io::Result<Frame<Bytes>>>, bool)> {
    let frame = ready!(body.poll_frame(cx));
    if let Some(Ok(frame)) = &frame {
        body.in_flight().count(frame);
    }
    let is_done = !matches!(frame, Some(Err(_))) && body.is_done();
    Poll::Ready((frame, is_done))
}

/// Returns the next part of the app's stream of events, and `true` if it ends with it.
fn poll_events<R: AppReader>(
    events: &mut EventBody<R>,
    cx: &mut Context<'_>,
) -> Poll<(Option<io::Result<Frame<Bytes>>>, bool)> {
    let frame = ready!(events.poll_frame(cx));
    if let Some(Ok(frame)) = &frame {
        events.in_flight().count(frame);
    }
    let is_failed = matches!(frame, Some(Err(_)));
    let is_over = frame.is_none() || (events.is_done() && !is_failed);
    Poll::Ready((frame, is_over))
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
                let (frame, is_done) = ready!(poll_app(body, cx));
                if is_done && let Self::App(body) = std::mem::replace(this, Self::Empty) {
                    body.finish();
                }
                Poll::Ready(frame)
            }
            Self::Events(events) => {
                let (frame, is_over) = ready!(poll_events(events, cx));
                if is_over && let Self::Events(events) = std::mem::replace(this, Self::Empty) {
                    events.end();
                }
                Poll::Ready(frame)
            }
            Self::StreamApp(body) => {
                let (frame, is_done) = ready!(poll_app(body, cx));
                if is_done && let Self::StreamApp(body) = std::mem::replace(this, Self::Empty) {
                    body.finish();
                }
                Poll::Ready(frame)
            }
            Self::StreamEvents(events) => {
                let (frame, is_over) = ready!(poll_events(events, cx));
                if is_over && let Self::StreamEvents(events) = std::mem::replace(this, Self::Empty)
                {
                    events.end();
                }
                Poll::Ready(frame)
            }
            Self::Grpc(messages) => {
                let frame = ready!(messages.poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    messages.in_flight().count(frame);
                }
                let is_failed = matches!(frame, Some(Err(_)));
                let is_over = frame.is_none() || (messages.is_done() && !is_failed);
                if is_over && let Self::Grpc(messages) = std::mem::replace(this, Self::Empty) {
                    messages.end();
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
            Self::App(_)
            | Self::Events(_)
            | Self::StreamApp(_)
            | Self::StreamEvents(_)
            | Self::Grpc(_) => false,
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::App(body) => size_hint(body.remaining()),
            Self::StreamApp(body) => size_hint(body.remaining()),
            Self::Events(_) | Self::StreamEvents(_) | Self::Grpc(_) => SizeHint::default(),
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
