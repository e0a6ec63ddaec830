//! The endpoints.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http_body_util::BodyExt;
use sample_app::journal::Journal;
use sample_app::{answers, grpc};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeader;

use crate::body::{Events, Filler};
use crate::calls;
use crate::record::record;
use crate::state::App;
use crate::websocket;

const RELEASE: HeaderName = HeaderName::from_static("x-release");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ECHO_METHOD: HeaderName = HeaderName::from_static("x-echo-method");

/// All endpoints; each answer names the release.
pub(crate) fn routes(
    app: &'static App,
    stop_path: Option<&str>,
    fail_every: Option<NonZeroU64>,
    journal: Option<&'static Journal>,
) -> SetResponseHeader<Router, HeaderValue> {
    let mut router = Router::new()
        .route("/", get(home))
        .route("/version", get(version))
        .route("/health", get(health))
        .route("/slow", any(slow))
        .route("/stream", get(stream))
        .route("/upload", post(upload).put(upload))
        .route("/echo", any(echo))
        .route("/session", any(session))
        .route("/protocol", get(protocol))
        .route(grpc::VERSION, post(calls::version))
        .route(grpc::EVENTS, post(calls::events))
        .route(grpc::ECHO, post(calls::echo))
        .route(grpc::HEALTH, post(calls::health))
        .route(answers::PAGE, get(page))
        .route(&answers::asset_path(app.version), get(asset))
        // Any method, as a WebSocket over HTTP/2 is a CONNECT.
        .route("/ws", any(websocket::echo).with_state(&app.stopping));
    if let Some(path) = stop_path {
        router = router.route(path, post(stop));
    }
    let mut router = router.fallback_service(ServeDir::new(".")).with_state(app);
    if let Some(every) = fail_every {
        router = router.layer(from_fn_with_state(every, fail));
    }
    if let Some(journal) = journal {
        router = router.layer(from_fn_with_state(journal, record));
    }
    // Around the router, not inside: a layer inside would box a future a request.
    SetResponseHeader::overriding(router, RELEASE, HeaderValue::from_static(app.version))
}

async fn home(State(app): State<&'static App>) -> (StatusCode, &'static str) {
    when_ready(app, app.home)
}

async fn health(State(app): State<&'static App>) -> (StatusCode, &'static str) {
    when_ready(app, "ready\n")
}

fn when_ready(app: &App, text: &'static str) -> (StatusCode, &'static str) {
    if app.readiness.reached() {
        (StatusCode::OK, text)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Middleware: one request of so many fails.
async fn fail(State(every): State<NonZeroU64>, request: Request, next: Next) -> Response {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let is_check = ["/", "/health"].contains(&request.uri().path());
    if !is_check && (ASKED.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every.get()) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "it fails\n").into_response();
    }
    next.run(request).await
}

async fn stop(State(app): State<&'static App>) -> StatusCode {
    app.asked.ask("a request");
    StatusCode::ACCEPTED
}

async fn protocol(version: Version) -> String {
    format!("{version:?}")
}

async fn version(State(app): State<&'static App>) -> &'static str {
    app.version
}

#[derive(Deserialize)]
struct Slow {
    #[serde(default = "a_second")]
    ms: u64,
    bytes: Option<u64>,
}

fn a_second() -> u64 {
    1000
}

async fn slow(State(app): State<&'static App>, Query(slow): Query<Slow>, body: Body) -> Response {
    // An answer to an unread upload would cost the client its connection.
    if let Err(error) = for_each_chunk(body, |_| ()).await {
        return broken_off(&error);
    }
    tokio::time::sleep(Duration::from_millis(slow.ms)).await;
    match slow.bytes {
        Some(bytes) => Body::new(Filler::new(bytes)).into_response(),
        None => app.home.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Stream {
    events: u64,
    every: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            events: 10,
            every: 100,
        }
    }
}

async fn stream(
    State(app): State<&'static App>,
    Query(stream): Query<Stream>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let last = headers.get(LAST_EVENT_ID);
    let last = last.and_then(|last| last.to_str().ok()?.parse().ok());
    let events = Events::new(
        app.version,
        last.unwrap_or(0).min(stream.events),
        stream.events,
        Duration::from_millis(stream.every),
    );
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::new(events))
}

async fn upload(body: Body) -> Response {
    let mut sha256 = Sha256::new();
    let mut length = 0;
    let received = for_each_chunk(body, |chunk| {
        sha256.update(chunk);
        length += chunk.len() as u64;
    });
    if let Err(error) = received.await {
        return broken_off(&error);
    }
    let json = answers::receipt(sha256, length);
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

async fn echo(method: Method, mut headers: HeaderMap, body: Body) -> Response {
    let mut response = body.into_response();
    if let Ok(method) = HeaderValue::from_str(method.as_str()) {
        response.headers_mut().insert(ECHO_METHOD, method);
    }
    if let Some(content_type) = headers.remove(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

async fn session(State(app): State<&'static App>, headers: HeaderMap) -> Response {
    let asked = headers.get_all(COOKIE).iter();
    let asked = asked.filter_map(|value| value.to_str().ok());
    let mut parts = asked.flat_map(|value| value.split(';'));
    let id = parts.find_map(|part| {
        part.trim()
            .strip_prefix(answers::SESSION)?
            .strip_prefix('=')
    });
    let (id, count) = app.sessions.count(id);
    let mut response = answers::session(app.version, count).into_response();
    if count == 1 {
        let cookie = format!("{}={id}; Path=/; HttpOnly", answers::SESSION);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
    }
    response
}

async fn page(State(app): State<&'static App>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/html"), (CACHE_CONTROL, "no-cache")];
    (headers, answers::page(app.version))
}

async fn asset(State(app): State<&'static App>) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/javascript"),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, answers::asset(app.version))
}

async fn for_each_chunk(mut body: Body, mut take: impl FnMut(&[u8])) -> Result<(), axum::Error> {
    while let Some(frame) = body.frame().await {
        if let Some(chunk) = frame?.data_ref() {
            take(chunk);
        }
    }
    Ok(())
}

fn broken_off(error: &axum::Error) -> Response {
    (
        StatusCode::BAD_REQUEST,
        format!("the body broke off: {error}\n"),
    )
        .into_response()
}
