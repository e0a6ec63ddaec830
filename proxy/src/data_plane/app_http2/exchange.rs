//! One request and its response on one stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{Method, Request, Response};
use http_body::Body as _;

use super::connection::{AppStream, OpenStream};
use super::head::{request_head, response_head};
use super::reader::{BodyEnd, StreamReader};
use super::upload::StreamUpload;
use crate::data_plane::exchange::{ExchangeError, OutgoingRequest};
use crate::data_plane::request_body::RequestBody;
use crate::data_plane::wire::Head;

/// An exchange without a response.
#[derive(Debug)]
pub(in crate::data_plane) struct StreamFailure {
    pub(in crate::data_plane) error: ExchangeError,
    pub(in crate::data_plane) effect: StreamEffect,
}

/// The effect that a request without a response can have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data_plane) enum StreamEffect {
    /// None: the app has said that it did nothing for it, and the whole request can be sent again.
    None,
    /// The connection, which had answered others, ended before an answer.
    Unknown,
    /// It may have had any.
    Any,
}

/// Sends the request, and receives the head of the response.
///
/// # Errors
/// Returns a [`StreamFailure`] if there is none.
pub(in crate::data_plane) async fn exchange(
    request: &mut OutgoingRequest,
    stream: AppStream,
    end: BodyEnd,
) -> Result<(Head, StreamReader), StreamFailure> {
    let head = request_head(&request.head, &request.added);
    let (answer, upload, open) = send(head, request, stream).await?;
    let (head, body) = response_head(answer).map_err(|error| StreamFailure {
        error: error.into(),
        effect: StreamEffect::Any,
    })?;
    let upload = upload.detach(&open.handle);
    let reader = StreamReader::new(body, head.content_length, end, upload, open);
    Ok((head, reader))
}

/// Sends a request with this head, and receives the answer. Behind the head of a CONNECT nothing is sent.
///
/// # Errors
/// Returns a [`StreamFailure`] if there is no answer.
pub(super) async fn send(
    head: Request<()>,
    request: &mut OutgoingRequest,
    mut stream: AppStream,
) -> Result<(Response<RecvStream>, StreamUpload, OpenStream), StreamFailure> {
    let is_whole = request.body.is_end_stream();
    let is_last = is_whole && *head.method() != Method::CONNECT;
    let is_reused = stream.is_reused();
    let (mut response, sending) = match stream.requests.send_request(head, is_last) {
        Ok(sent) => sent,
        Err(error) if error.is_go_away() || error.is_io() => {
            stream.open.mark_leaving();
            return Err(StreamFailure {
                error: exchange_error(error),
                effect: StreamEffect::None,
            });
        }
        Err(error) => {
            return Err(StreamFailure {
                error: exchange_error(error),
                effect: StreamEffect::Any,
            });
        }
    };
    let body = std::mem::replace(&mut request.body, RequestBody::Empty);
    let mut upload = StreamUpload::new(sending, body, is_whole);
    let open = stream.open;
    // Others wait for room on this connection.
    drop(stream.requests);
    open.handle.start_response_timer();
    let answered = poll_fn(|cx| poll_response(cx, &mut response, &mut upload, &open)).await;
    open.handle.stop_response_timer();
    let answer = match answered {
        Ok(answer) => answer,
        Err(NoAnswer::Exchange(error)) => {
            let effect = StreamEffect::Any;
            return Err(StreamFailure { error, effect });
        }
        Err(NoAnswer::Stream(error)) => {
            let mut effect = effect_of(&error, is_reused);
            if error.is_go_away() || error.is_io() {
                open.mark_leaving();
            }
            if effect == StreamEffect::None {
                match upload.into_body() {
                    Some(body) => request.body = body,
                    None => effect = StreamEffect::Any,
                }
            }
            let error = exchange_error(error);
            return Err(StreamFailure { error, effect });
        }
    };
    open.mark_answered();
    Ok((answer, upload, open))
}

/// The reason for which there is no answer.
enum NoAnswer {
    Exchange(ExchangeError),
    Stream(h2::Error),
}

fn poll_response(
    cx: &mut Context<'_>,
    response: &mut ResponseFuture,
    upload: &mut StreamUpload,
    open: &OpenStream,
) -> Poll<Result<Response<RecvStream>, NoAnswer>> {
    if let Some(cut) = open.handle.cut_cause() {
        return Poll::Ready(Err(NoAnswer::Exchange(ExchangeError::Cut(cut))));
    }
    open.handle.register_reader(cx);
    if let Poll::Ready(Err(error)) = upload.poll(cx, &open.handle) {
        return Poll::Ready(Err(NoAnswer::Exchange(ExchangeError::ClientBody(error))));
    }
    Pin::new(response).poll(cx).map_err(NoAnswer::Stream)
}

/// Returns the effect of a request that ended with this error (RFC 9113, section 8.7).
fn effect_of(error: &h2::Error, is_reused: bool) -> StreamEffect {
    let is_refused = error.reason() == Some(Reason::REFUSED_STREAM);
    // A stream ends with the app's GOAWAY if that names an earlier one as its last.
    if error.is_remote() && (error.is_go_away() || is_refused) {
        StreamEffect::None
    } else if error.is_io() && is_reused {
        StreamEffect::Unknown
    } else {
        StreamEffect::Any
    }
}

fn exchange_error(error: h2::Error) -> ExchangeError {
    if error.is_io() || error.is_go_away() && error.is_remote() {
        ExchangeError::NoResponse(io::Error::other(error))
    } else {
        ExchangeError::Stream(error)
    }
}
