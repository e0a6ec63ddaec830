//! The gRPC service, which [`sample_app::grpc`] describes, and the health check of gRPC.

use std::future::ready;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full};
use sample_app::grpc::{self, Subscription};

use crate::body::Events;
use crate::state::App;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Statuses of calls.
const OK: HeaderValue = HeaderValue::from_static("0");
const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");
const NOT_FOUND: HeaderValue = HeaderValue::from_static("5");

/// Answers to a health check: the first field is a number.
const SERVING: &[u8] = &[0x08, 1];
const NOT_SERVING: &[u8] = &[0x08, 2];

pub(crate) async fn version(State(app): State<&'static App>, body: Body) -> Response {
    if body.collect().await.is_err() {
        return failed(INVALID_ARGUMENT);
    }
    answer_with(&grpc::text(app.version.as_bytes()))
}

pub(crate) async fn events(State(app): State<&'static App>, body: Body) -> Response {
    let Some(wish) = message(body).await else {
        return failed(INVALID_ARGUMENT);
    };
    let Some(wish) = Subscription::decode(&wish) else {
        return failed(INVALID_ARGUMENT);
    };
    let every = Duration::from_millis(wish.every_ms.into());
    let events = Events::new(app.version, 0, wish.events.into(), every);
    answer(Body::new(events.map_frame(|event| {
        event.map_data(|event| grpc::frame(&grpc::text(&event)))
    })))
}

/// Answers each message with itself, at once.
pub(crate) async fn echo(messages: Body) -> Response {
    answer(messages)
}

pub(crate) async fn health(State(app): State<&'static App>, body: Body) -> Response {
    let asked = message(body).await;
    let asked = asked.as_deref().and_then(grpc::read_text);
    match asked {
        Some(service) if service.is_empty() || service == grpc::SERVICE.as_bytes() => {
            answer_with(if app.readiness.reached() {
                SERVING
            } else {
                NOT_SERVING
            })
        }
        Some(_) => failed(NOT_FOUND),
        None => failed(INVALID_ARGUMENT),
    }
}

/// Reads the one message of a call.
async fn message(body: Body) -> Option<Vec<u8>> {
    let received = body.collect().await.ok()?.to_bytes();
    grpc::take(&mut &received[..]).map(<[u8]>::to_vec)
}

fn answer_with(message: &[u8]) -> Response {
    answer(Body::new(Full::new(grpc::frame(message))))
}

/// Answers with messages, and the status OK behind them.
fn answer(messages: Body) -> Response {
    let trailers = HeaderMap::from_iter([(STATUS, OK)]);
    let body = messages.with_trailers(ready(Some(Ok(trailers))));
    ([(CONTENT_TYPE, grpc::CONTENT_TYPE)], Body::new(body)).into_response()
}

/// Answers without a message, so that the status is in the head.
fn failed(status: HeaderValue) -> Response {
    let content_type = HeaderValue::from_static(grpc::CONTENT_TYPE);
    ([(CONTENT_TYPE, content_type), (STATUS, status)], ()).into_response()
}
