//! Requests that handoff answers itself, or not only with what the app says.

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::context::ForwardContext;
use super::error::ForwardError;
use super::headers;
pub(super) use super::own_paths::SpecialRequest;
use super::own_paths::empty;

/// Returns the treatment of a request that is not simply forwarded.
pub(super) fn find_special(
    context: &ForwardContext,
    request: &Request<Incoming>,
) -> Option<SpecialRequest> {
    if let Some(paths) = &context.own_paths
        && let Some(special) = paths.find(request, &context.router)
    {
        return Some(special);
    }
    if request.method() == Method::CONNECT {
        return Some(SpecialRequest::Refused(ForwardError::Connect));
    }
    match headers::remaining_forwards(request.method(), request.headers())? {
        0 if request.method() == Method::OPTIONS => {
            Some(SpecialRequest::Own(Box::new(empty(StatusCode::NO_CONTENT))))
        }
        0 => Some(SpecialRequest::Refused(ForwardError::TraceEndsHere)),
        1.. => None,
    }
}
