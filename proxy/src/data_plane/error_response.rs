//! The responses that handoff gives in the app's place, in the form that their readers understand.
//!
//! The reason of a failure inside is none of theirs: it is in the log, with the id of the request
//! that the response shows.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::activity::Ending;
use super::connections::Client;
use super::context::ForwardContext;
use super::error::ForwardError;
use super::error_pages::PageKind;
use super::exchange_error::ExchangeError;
use super::headers;
use super::request_id;
use super::request_log::RequestRecord;
use super::response_body::ResponseBody;
use crate::router::HoldError;

/// Value of `Retry-After`, in seconds.
const RETRY_SOON: &str = "1";
/// Value of `Retry-After` in a maintenance, in seconds.
const RETRY_AFTER_MAINTENANCE: &str = "60";

/// The reader of an error, as far as its request describes it.
#[derive(Debug)]
pub(super) struct ErrorRecipient {
    form: ErrorForm,
    id: HeaderValue,
}

/// The form of a response that the client prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorForm {
    Html,
    Json,
    Text,
    /// A status of gRPC, without a body.
    Grpc,
}

// === impl ErrorRecipient ===

impl ErrorRecipient {
    /// Returns the sender of a request with these fields.
    pub(super) fn of(headers: &HeaderMap, record: &RequestRecord) -> Self {
        Self {
            form: ErrorForm::preferred_by(headers),
            id: record.id_or_new(headers),
        }
    }
}

// === impl ErrorForm ===

impl ErrorForm {
    /// Returns the form that the client names, with the greatest weight; text for all others, as
    /// programs accept anything.
    fn preferred_by(headers: &HeaderMap) -> Self {
        if headers::is_grpc(headers) {
            return Self::Grpc;
        }
        let (mut html, mut json) = (0.0, 0.0);
        let values = headers.get_all(header::ACCEPT).iter();
        let ranges = values.filter_map(|value| value.to_str().ok());
        for range in ranges.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if ["text/html", "application/xhtml+xml"].contains(&&*name) {
                html = f32::max(html, weight);
            } else if name == "application/json" || name.ends_with("+json") {
                json = f32::max(json, weight);
            }
        }
        if html > 0.0 && html >= json {
            Self::Html
        } else if json > 0.0 {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// Ends a request that the app has not answered, and returns the response.
pub(super) fn refuse(
    context: &ForwardContext,
    client: &Client,
    recipient: ErrorRecipient,
    error: &ForwardError,
) -> Response<ResponseBody> {
    client.begin_idle();
    if error.ends_connection() {
        client.activity.set_ending(Ending::LingerNext);
    }
    let ErrorRecipient { form, id } = recipient;
    let status = error.status();
    if is_failure(error) {
        context.error_log.write(error, status, &id);
    }
    let is_maintenance = matches!(error, ForwardError::Hold(HoldError::Maintenance));
    let maintenance = is_maintenance.then(|| context.router.maintenance());
    let maintenance = maintenance.flatten();
    let message = maintenance.as_ref().and_then(|it| it.message.as_deref());
    let detail = message.map_or_else(|| detail(error, status), Cow::Borrowed);
    if form == ErrorForm::Grpc {
        return grpc_response(error, &detail, id);
    }
    let page = || {
        let pages = context.error_pages.as_ref()?;
        let kind = PageKind::of(status, maintenance.is_some())?;
        pages.render(kind, &detail, id.to_str().unwrap_or_default())
    };
    let page = (form == ErrorForm::Html).then(page).flatten();
    let (kind, body) = if let Some(page) = page {
        ("text/html; charset=utf-8", page)
    } else if form == ErrorForm::Json {
        ("application/problem+json", problem(status, &detail, &id))
    } else {
        let shown = if status.is_server_error() {
            format!(
                "{status}: {detail}\nRequest ID: {}\n",
                id.to_str().unwrap_or_default()
            )
        } else {
            format!("{status}: {detail}\n")
        };
        ("text/plain; charset=utf-8", shown)
    };
    let mut response = Response::new(ResponseBody::Text(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status.is_server_error() {
        let not_kept = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, not_kept);
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(&request_id::NAME, id);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = if maintenance.is_some() {
            RETRY_AFTER_MAINTENANCE
        } else {
            RETRY_SOON
        };
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// Returns the response to a gRPC call: a head that is all of it (gRPC over HTTP/2, `Trailers-Only`).
fn grpc_response(error: &ForwardError, detail: &str, id: HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    let headers = response.headers_mut();
    *headers = error.grpc_status().fields(detail);
    let content_type = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(&request_id::NAME, id);
    response
}

/// Returns `true` if a person may have to look for the reason.
fn is_failure(error: &ForwardError) -> bool {
    let is_expected = matches!(
        error,
        ForwardError::Hold(HoldError::Maintenance | HoldError::Closing)
            | ForwardError::NoResponse(ExchangeError::Deadline)
            | ForwardError::Connect
            | ForwardError::TraceEndsHere
    );
    error.status().is_server_error() && !is_expected
}

/// Returns a text for the client: the reason, if that is the request, else what follows from it.
fn detail(error: &ForwardError, status: StatusCode) -> Cow<'static, str> {
    match status {
        StatusCode::BAD_GATEWAY => "the application did not answer this request".into(),
        StatusCode::SERVICE_UNAVAILABLE => "the application is not available at the moment".into(),
        StatusCode::GATEWAY_TIMEOUT => "the application did not answer in time".into(),
        _ => error.to_string().into(),
    }
}

/// Returns the error as JSON (RFC 9457).
fn problem(status: StatusCode, detail: &str, id: &HeaderValue) -> String {
    let title = status.canonical_reason().unwrap_or_default();
    json!({
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
        "request_id": id.to_str().unwrap_or_default(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &[&'static str]) -> ErrorForm {
        let fields = accept
            .iter()
            .map(|&value| (header::ACCEPT, HeaderValue::from_static(value)));
        ErrorForm::preferred_by(&fields.collect())
    }

    #[test]
    fn people_get_pages_and_programs_what_they_name() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(form(&[browser]), ErrorForm::Html);
        assert_eq!(
            form(&["application/json, text/plain, */*"]),
            ErrorForm::Json
        );
        assert_eq!(form(&["application/problem+json"]), ErrorForm::Json);
        assert_eq!(
            form(&["text/html;q=0.5, application/json"]),
            ErrorForm::Json
        );
        assert_eq!(
            form(&["TEXT/HTML ; q=1", "application/json;q=0.9"]),
            ErrorForm::Html
        );
        for other in [
            &["*/*"][..],
            &[],
            &["text/html;q=0"],
            &["image/png"],
            &[";;q=,"],
        ] {
            assert_eq!(form(other), ErrorForm::Text, "{other:?}");
        }
    }
}
