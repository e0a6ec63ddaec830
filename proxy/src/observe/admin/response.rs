//! Responses to requests, by path.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use super::events::Events;
use super::metrics_format::MetricsFormat;
use super::view::View;
use super::{guard, metrics, page, readiness};

/// The body of a response.
#[derive(Debug)]
pub(super) enum ResponseBody {
    Whole(Bytes),
    Events(Events),
}

/// Fields of every response, which must not be stored, framed, sniffed or given to other sites.
const COMMON_FIELDS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";
const TEXT: &str = "text/plain; charset=utf-8";

/// Returns the response to a request.
pub(super) fn respond<B>(view: &Rc<View>, request: &Request<B>) -> Response<ResponseBody> {
    let checked = guard::check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => respond_to(view, request.uri().path(), request.headers()),
        Err(error) => {
            let mut response = text(error.status(), &error.to_string());
            if error.status() == StatusCode::METHOD_NOT_ALLOWED {
                set(&mut response, header::ALLOW, "GET, HEAD");
            }
            response
        }
    };
    for (name, value) in COMMON_FIELDS {
        set(&mut response, name, value);
    }
    if !response
        .headers()
        .contains_key(header::CONTENT_SECURITY_POLICY)
    {
        set(&mut response, header::CONTENT_SECURITY_POLICY, NOTHING);
    }
    if request.method() == Method::HEAD
        && let ResponseBody::Events(_) = response.body()
    {
        *response.body_mut() = ResponseBody::Whole(Bytes::new());
    }
    response
}

fn respond_to(view: &Rc<View>, path: &str, fields: &HeaderMap) -> Response<ResponseBody> {
    match path {
        "/" => {
            let mut response = whole("text/html; charset=utf-8", page::HTML);
            let policy = HeaderValue::from_str(&page::policy());
            if let Ok(policy) = policy {
                response
                    .headers_mut()
                    .insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        "/events" => match Events::follow(view) {
            Some(events) => of("text/event-stream", ResponseBody::Events(events)),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many connections to /events",
            ),
        },
        "/metrics" => {
            let format = MetricsFormat::negotiate(fields);
            let mut response = whole(format.media_type(), format.write(metrics::text(view)));
            set(&mut response, header::VARY, "Accept");
            response
        }
        "/status" => {
            let json = serde_json::to_vec(&view.complete_status());
            whole("application/json", json.unwrap_or_default())
        }
        "/healthz" => text(StatusCode::OK, "alive"),
        "/readyz" => {
            let is_routed = view.router.acquire_active().is_some();
            match readiness::reason_unready(&view.status.borrow(), is_routed) {
                None => text(StatusCode::OK, "ready"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
            }
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "not found; there are: / /events /metrics /status /healthz /readyz",
        ),
    }
}

fn text(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let mut response = whole(TEXT, format!("{text}\n"));
    *response.status_mut() = status;
    response
}

fn whole(kind: &'static str, body: impl Into<Bytes>) -> Response<ResponseBody> {
    of(kind, ResponseBody::Whole(body.into()))
}

fn of(kind: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_TYPE, kind);
    response
}

fn set(response: &mut Response<ResponseBody>, name: HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}

// === impl ResponseBody ===

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Events(events) => events
                .poll_next(cx)
                .map(|next| Some(Ok(Frame::data(next?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
