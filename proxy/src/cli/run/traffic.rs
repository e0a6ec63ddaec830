//! Options about requests and connections.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use crate::cli::values::{
    Duration, Size, parse_close_code, parse_listen, parse_network, parse_sticky,
};
use crate::data_plane::{Forwarded, SessionCookie, TesterField};
use crate::deployment::canary::CanaryPlan;
use crate::router::AppProtocol;
use crate::user_tokens::WindowsAuth;

/// Connections of clients.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Client connections")]
pub struct ClientOptions {
    /// Public address to listen on [default: 127.0.0.1:$HTTP_PLATFORM_PORT, else 127.0.0.1:8080]
    ///
    /// 8080 or localhost:8080 is 127.0.0.1:8080, for this machine only; :8080 is 0.0.0.0:8080.
    #[arg(long, value_name = "ADDR", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,

    /// Number of threads that serve requests [default: one per processor]
    #[arg(long)]
    pub workers: Option<usize>,

    /// Maximum number of client connections at a time; for further ones, those that have been idle for
    /// longest are closed
    ///
    /// While all are in use, further ones wait. The limit of open descriptors may allow fewer.
    #[arg(long, default_value_t = 10_000)]
    pub max_connections: usize,

    /// Maximum time for a client to send a request's head; then the answer is 408
    #[arg(long, default_value = "30s")]
    pub header_timeout: Duration,

    /// Maximum time for which a client's connection may be idle
    ///
    /// It should be longer than clients that pool connections, as IIS does, keep theirs.
    #[arg(long, default_value = "10m")]
    pub idle_timeout: Duration,

    /// Maximum time without a byte while a client is to send a body or to take an answer
    ///
    /// Its connection is closed then, and that to the app with it. Where no answer has begun, the
    /// client gets 408.
    #[arg(long, default_value = "60s")]
    pub client_timeout: Duration,

    /// Minimum rate at which a client sends a body or takes an answer, in bytes per second; 0 is
    /// none
    ///
    /// It counts only while the client is awaited, and with 20s of grace at the beginning. A client
    /// that was faster may stop for --client-timeout.
    #[arg(long, value_name = "BYTES", default_value = "240")]
    pub min_rate: Size,

    /// Maximum size of a request's head in bytes; a larger one is answered with 431
    #[arg(long, value_name = "BYTES", default_value_t = 32_768)]
    pub max_header_size: usize,

    /// Maximum number of fields in a request's head; more are answered with 431
    #[arg(long, default_value_t = 100)]
    pub max_headers: usize,

    /// Maximum size of a request's target in bytes; a larger one is answered with 414
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    pub max_target: usize,

    /// Answer clients that have closed their half of the connection, instead of cancelling their
    /// requests
    #[arg(long)]
    pub half_close: bool,

    /// Accept HTTP/2 from clients that speak it without asking (prior knowledge, h2c), beside
    /// HTTP/1.1 [default: on; behind HttpPlatformHandler, which does not speak it, off]
    #[arg(long, value_name = "on|off")]
    pub http2: Option<Switch>,
}

/// State of something that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is used
    On,
    /// It is not used
    Off,
}

/// Protocol of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AppProtocolOption {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS, with prior knowledge
    H2c,
    /// HTTP/2 if the app speaks it, else HTTP/1.1
    Auto,
}

/// Connections to the app.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Upstream connections")]
pub struct UpstreamOptions {
    /// Protocol in which requests and checks reach the app; `auto` asks each instance once, before
    /// its first health check
    #[arg(long, value_enum, default_value = "http1")]
    pub app_protocol: AppProtocolOption,

    /// Maximum time for the app to accept a connection; then the answer is 504
    #[arg(long, default_value = "5s")]
    pub connect_timeout: Duration,

    /// Maximum time from the end of a request to the head of the app's answer; then the answer is
    /// 504
    #[arg(long, default_value = "5m")]
    pub response_timeout: Duration,

    /// Maximum time between two parts of an answer's body while the app is awaited; then the answer
    /// is cut [default: any]
    ///
    /// It holds for event streams and gRPC too, which may be silent for hours unless they send
    /// comments or pings of their own; not for WebSockets.
    #[arg(long, value_name = "DURATION")]
    pub response_idle_timeout: Option<Duration>,

    /// Maximum time to keep an idle connection to the app, less than the app itself keeps it
    ///
    /// If the app sends `Keep-Alive: timeout=N`, that counts instead. With 0s, each request has a
    /// connection of its own, and asks the app to close it.
    #[arg(long, default_value = "4s")]
    pub upstream_idle_timeout: Duration,

    /// Treatment of the fields that describe the client of a request: X-Forwarded-For, -Proto,
    /// -Host and others
    #[arg(long, value_enum, default_value = "auto")]
    pub forwarded: Forwarded,

    /// Network of proxies that `--forwarded auto` believes, such as 10.1.0.0/16; can be repeated, or
    /// separated by commas
    ///
    /// Proxies on this machine are believed without it.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Treatment of the users' Windows access tokens that HttpPlatformHandler leaves in this process
    /// with forwardWindowsAuthToken
    #[arg(long, value_enum, default_value = "off")]
    pub windows_auth: WindowsAuth,
}

/// Requests that wait while no release is active.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Held requests")]
pub struct HoldOptions {
    /// Maximum time for which a request waits while no release is active; then the answer is 503
    #[arg(long, default_value = "60s")]
    pub hold_timeout: Duration,

    /// Maximum time for which a request waits before the first release has served; then the answer
    /// is 503
    #[arg(long, default_value = "110s")]
    pub first_hold_timeout: Duration,

    /// Maximum number of requests that wait while no release is active; further ones are answered
    /// with 503
    #[arg(long, default_value_t = 1000)]
    pub max_held: usize,
}

/// Clients that stay at the release that they know.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sessions")]
pub struct SessionOptions {
    /// Let a client that is known by a cookie go on reaching the release on which its session began:
    /// `cookie` or `cookie=NAME`; the name is `handoff` otherwise
    ///
    /// handoff sets the cookie itself; the app gets it with all others. New clients always get the active
    /// release. A crash, a rollback, and --max-draining end sessions at once.
    #[arg(long, value_name = "cookie[=NAME]", value_parser = parse_sticky)]
    pub sticky: Option<SessionCookie>,

    /// Maximum time after a handoff for which sessions go on at the superseded release
    #[arg(long, default_value = "30m")]
    pub session_timeout: Duration,

    /// Time without a request of any client with a session there after which a superseded release
    /// ends earlier
    #[arg(long, default_value = "5m")]
    pub session_idle: Duration,

    /// Stages in which each new release gets a share of new clients before it serves everybody:
    /// `5%:10m,50%:10m`; needs --sticky
    ///
    /// It is refused when its share of errors is higher than that of the active release for certain,
    /// by more than --bake-max-errors if that is given. A stage lasts until the release has given 20
    /// responses.
    #[arg(long, value_name = "SHARE:DURATION,...")]
    pub canary: Option<CanaryPlan>,

    /// Field of a request by which testers reach the release of a running canary, whatever its share, such
    /// as `X-Canary=team-a`; needs --sticky
    ///
    /// The request has the field once, with exactly this value. The app gets it, too. Responses to
    /// testers do not count for or against the release. Without a canary the field means nothing.
    #[arg(long, value_name = "NAME=VALUE")]
    pub canary_header: Option<TesterField>,
}

/// Responses of handoff itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Own responses")]
pub struct ResponseOptions {
    /// Folder with pages for browsers: 502.html, 503.html, 504.html and maintenance.html
    ///
    /// They are read again when they change. `{request_id}` and `{message}` in them are replaced. Other
    /// clients get JSON or a text, as does everybody for a page that is missing.
    #[arg(long, value_name = "DIR")]
    pub error_pages: Option<PathBuf>,

    /// Path at which handoff itself tells a load balancer if this sidecar can serve: 200 or 503
    ///
    /// The app never sees a GET or HEAD request for it. In a maintenance it is 200.
    #[arg(long, value_name = "PATH")]
    pub public_health: Option<String>,

    /// Status of the close frame that WebSockets get when their release drains, and at a shutdown: 1001
    /// (going away), 1012 (service restart) or another that an endpoint may send
    #[arg(long, value_name = "CODE", default_value = "1001", value_parser = parse_close_code)]
    pub websocket_close_code: u16,

    /// Time after which the browser of an event stream opens it again when handoff has ended it: its
    /// last lines are `retry: MILLISECONDS` and a blank one [default: the browser decides]
    ///
    /// The browser keeps to it until the app sends a `retry` of its own.
    #[arg(long, value_name = "TIME")]
    pub event_retry: Option<Duration>,
}

/// Shutdown of handoff.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownOptions {
    /// Time for which a shutdown goes on accepting, with `Connection: close` in every answer
    #[arg(long, default_value = "1s")]
    pub shutdown_delay: Duration,

    /// Maximum time for the whole shutdown [default: 40s; under HttpPlatformHandler, which kills
    /// after 10s, 8s]
    #[arg(long)]
    pub shutdown_timeout: Option<Duration>,
}

// === impl AppProtocolOption ===

impl AppProtocolOption {
    /// Returns the protocol; `None` if the app is to be asked.
    pub fn protocol(self) -> Option<AppProtocol> {
        match self {
            Self::Http1 => Some(AppProtocol::Http1),
            Self::H2c => Some(AppProtocol::Http2),
            Self::Auto => None,
        }
    }
}
