//! Requests that handoff answers itself.

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::context::ForwardContext;
use super::error::ForwardError;
use super::headers;

/// Returns the status of the response, or the error, if handoff answers the request itself.
pub(super) fn respond_locally(
    context: &ForwardContext,
    request: &Request<Incoming>,
) -> Option<Result<StatusCode, ForwardError>> {
    if let Some(shutdown) = &context.shutdown_request
        && shutdown.matches(request)
    {
        shutdown.notify();
        // The status that the platform expects.
        return Some(Ok(StatusCode::ACCEPTED));
    }
    if request.method() == Method::CONNECT {
        return Some(Err(ForwardError::Connect));
    }
    match headers::remaining_forwards(request.method(), request.headers())? {
        0 if request.method() == Method::OPTIONS => Some(Ok(StatusCode::NO_CONTENT)),
        0 => Some(Err(ForwardError::TraceEndsHere)),
        1.. => None,
    }
}
