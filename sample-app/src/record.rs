//! Each request goes into the journal before it is answered, and its answer names it.

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sample_app::journal::Journal;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Middleware: a request that cannot be journaled is not answered as if it had been.
pub(crate) async fn record(
    State(journal): State<&'static Journal>,
    request: Request,
    next: Next,
) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let bytes = id.as_ref().map(|id| id.as_bytes());
    let appended = journal.append(bytes, request.method().as_str(), request.uri().path());
    let mut response = match appended {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let text = format!("journal: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    };
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
