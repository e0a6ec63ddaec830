//! Settings of the data plane.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::access::AccessLog;
use super::counters::TrafficCounters;
use super::error_pages::ErrorPages;
use super::headers::{Forwarded, TrustedProxies};
use super::session_cookie::SessionCookie;
use super::shutdown_request::ShutdownRequest;
use super::tester_field::TesterField;
use super::user_token::UserTokens;
use crate::release::KeptFiles;

/// Settings of the data plane.
#[derive(Clone, Debug)]
pub struct DataPlaneSettings {
    /// Number of threads that serve connections.
    pub workers: usize,
    /// Treatment of the fields that describe the client.
    pub forwarded: Forwarded,
    /// Proxies that [`Forwarded::Auto`] believes.
    pub trusted_proxies: TrustedProxies,
    /// Time limits of clients.
    pub client: ClientLimits,
    /// Time limits of the app.
    pub app: AppLimits,
    /// Limits of one request.
    pub request: RequestLimits,
    /// Maximum size of a request's head, in bytes.
    pub max_header_size: usize,
    /// Maximum number of fields in a request's head.
    pub max_headers: usize,
    /// Maximum number of connections served at a time; more wait in the backlog.
    pub max_connections: usize,
    /// A client that has closed its half of the connection still gets its response.
    pub half_close: bool,
    /// Clients may speak HTTP/2 without asking for it (prior knowledge).
    pub http2: bool,
    /// The platform's request to shut down, where the platform has announced one.
    pub shutdown_request: Option<ShutdownRequest>,
    /// Path at which handoff itself says if it can serve; `None` answers nowhere.
    pub public_health: Option<String>,
    /// The operator's pages for errors; `None` has none.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Assets of earlier releases; `None` keeps none.
    pub old_assets: Option<Arc<OldAssets>>,
    /// Status of the close frame of a WebSocket that drains.
    pub websocket_close_code: u16,
    /// The cookie of sessions; `None` lets nobody go on reaching a superseded release.
    pub session_cookie: Option<SessionCookie>,
    /// The field of testers, who reach a canary; `None` has none.
    pub tester_field: Option<TesterField>,
    /// Handler of users' tokens. Without one, the fields that name tokens are removed.
    pub user_tokens: Option<Arc<dyn UserTokens>>,
    /// Counters for metrics; `None` counts nothing.
    pub counters: Option<TrafficCounters>,
    /// The access log; `None` writes none.
    pub access_log: Option<AccessLog>,
    /// Requests without an `X-Request-ID` get one.
    pub request_id: bool,
}

/// Time limits of clients.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Maximum time for the head of a request, and for the first byte of a connection.
    pub header_timeout: Duration,
    /// Maximum time between two requests of a connection.
    pub idle_timeout: Duration,
    /// Maximum time without progress while the client is to send a body, or to take an answer.
    pub timeout: Duration,
    /// Minimum rate at which it does, in bytes per second; zero is none.
    pub min_rate: u64,
}

/// Time limits of the app.
#[derive(Clone, Copy, Debug)]
pub struct AppLimits {
    /// Maximum time until a connection is accepted.
    pub connect_timeout: Duration,
    /// Maximum time from the end of a request to the head of its response.
    pub response_timeout: Duration,
    /// Maximum time for which a response's body is awaited without a byte; `None` is any.
    pub response_idle_timeout: Option<Duration>,
    /// Maximum time that a connection is kept idle; has to be less than the app's own limit.
    pub idle_timeout: Duration,
    /// Time after which the client of an event stream that handoff ends is to come back; `None`
    /// leaves it to the client.
    pub event_retry: Option<Duration>,
}

/// The assets of earlier releases.
#[derive(Clone, Debug)]
pub struct OldAssets {
    /// First parts of the paths of assets, with a slash at both ends.
    pub prefixes: Vec<String>,
    /// The kept files.
    pub kept: Arc<ArcSwap<KeptFiles>>,
}

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Maximum length of the target, in bytes.
    pub max_target: usize,
    /// Maximum time that a request waits for an app that refuses connections although its process
    /// runs.
    pub hold_timeout: Duration,
}
