//! The way of a request through the module.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{
    CONNECTION, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::activity::Activity;
use super::application::{InFlight, Refusal};
use super::host::{Host, random_id};
use super::output::{self, Answer, Output};
use super::site::Site;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const WEBSOCKET_EXTENSIONS: HeaderName = HeaderName::from_static("sec-websocket-extensions");
/// Fields that only the module sets: a client's are removed.
const OWN: [&str; 3] = [
    "ms-aspnetcore-event",
    "ms-aspnetcore-token",
    "ms-aspnetcore-winauthtoken",
];

pub(super) async fn forward(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    site: Arc<Site>,
) -> Response<Answer> {
    let (in_flight, process) = loop {
        let application = match site.application() {
            Ok(application) => application,
            Err(reason) => return page("500.19", &reason),
        };
        let in_flight = application.begin();
        let refusal = match in_flight.application().process().await {
            Ok(process) => break (in_flight, process),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Unloaded => {}
            Refusal::Disabled => return page("502.5", "it has failed too often this minute"),
            Refusal::Failed(reason) => return page("502.5", &reason),
        }
    };
    let host = &site.host;
    let is_websocket = is_websocket(request.headers());
    let upgrade = is_websocket.then(|| hyper::upgrade::on(&mut request));
    edit_request(request.headers_mut(), peer, is_websocket, host);
    let activity = Activity::new(host.clock.clone());
    let limit = in_flight.application().config.request_timeout;
    let request = request.map(|body| activity.watch(body).boxed_unsync());
    let answered = tokio::select! {
        answered = process.send(request) => answered,
        () = activity.wait_until_idle(limit) => return page("502.3", "the operation timed out"),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => return page("502.3", &causes(&error)),
    };
    activity.moved();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let app = hyper::upgrade::on(&mut response);
        if let Some(client) = upgrade {
            tokio::spawn(tunnel(client, app, in_flight));
        }
        response.headers_mut().remove(DATE);
        return response.map(|_| output::empty());
    }
    let is_framed_by_length = response.headers().contains_key("content-length");
    for name in [CONNECTION, TRANSFER_ENCODING, DATE] {
        response.headers_mut().remove(name);
    }
    let (parts, body) = response.into_parts();
    let output = Output {
        body,
        buffer: host.module.output_buffer,
        activity,
        limit,
        // Otherwise the client knows how much should have come.
        may_truncate: host.module.truncates && !is_framed_by_length,
        _in_flight: in_flight,
    };
    match output.begin().await {
        Ok(answer) => Response::from_parts(parts, answer),
        Err(reason) => page("502.3", &reason),
    }
}

/// Returns the error page of IIS, with less decoration.
pub(super) fn page(status: &str, reason: &str) -> Response<Answer> {
    let text = format!("HTTP Error {status} - the platform: {reason}\n");
    let mut response = Response::new(output::full(text));
    *response.status_mut() = match status {
        "500.19" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_GATEWAY,
    };
    response
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

fn edit_request(headers: &mut HeaderMap, peer: SocketAddr, is_websocket: bool, host: &Host) {
    if host.module.front_end {
        add_front_end(headers, peer);
    }
    if !is_websocket {
        headers.remove(CONNECTION);
    } else if host.module.strips_websocket_extensions {
        headers.remove(WEBSOCKET_EXTENSIONS);
    }
    for name in OWN {
        headers.remove(name);
    }
    append(headers, FORWARDED_FOR, &peer.to_string());
    if headers.contains_key(FORWARDED_PROTO) || !host.module.front_end {
        append(headers, FORWARDED_PROTO, "http");
    }
}

/// `old, new`, as one field.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let old = headers.get(&name).and_then(|old| old.to_str().ok());
    let all = old.map_or_else(|| value.to_owned(), |old| format!("{old}, {value}"));
    if let Ok(all) = HeaderValue::try_from(all) {
        headers.insert(name, all);
    }
}

/// Adds the fields of Azure's front end.
fn add_front_end(headers: &mut HeaderMap, peer: SocketAddr) {
    let (ip, port) = (peer.ip().to_string(), peer.port().to_string());
    let address = peer.to_string();
    let id = random_id();
    let fields = [
        ("max-forwards", "10"),
        ("x-arr-log-id", &id),
        ("client-ip", &address),
        ("x-client-ip", &ip),
        ("x-client-port", &port),
        ("disguised-host", "site.example"),
        ("x-site-deployment-id", "site"),
        ("was-default-hostname", "site.example"),
        ("x-appservice-proto", "https"),
        ("x-arr-ssl", "2048|256|C=US|CN=example"),
        ("x-forwarded-tlsversion", "1.3"),
        ("x-forwarded-proto", "https"),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Both ways until both ends have ended.
async fn tunnel(client: OnUpgrade, app: OnUpgrade, _in_flight: InFlight) {
    let (Ok(client), Ok(app)) = tokio::join!(client, app) else {
        return;
    };
    let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
    // A tunnel has no status to fail with.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
