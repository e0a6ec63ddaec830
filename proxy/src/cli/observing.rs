//! Options about looking on while it runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::data_plane::AccessForm;

/// See [`super::Run`].
#[derive(Args, Clone, Debug)]
pub struct Observing {
    /// Metrics, status and a page for people, at this loopback address, such as 127.0.0.1:9900
    #[arg(
        long,
        env = "HANDOFF_ADMIN",
        value_name = "ADDR",
        help_heading = "Looking on"
    )]
    pub admin: Option<SocketAddr>,

    /// Where what the app writes goes: `prefix` (the log, each line marked with its generation and
    /// release), `raw` (stdout, each line as it is) or a file (each line marked)
    #[arg(
        long,
        env = "HANDOFF_APP_LOG",
        value_name = "prefix|raw|FILE",
        default_value = "prefix",
        help_heading = "Looking on"
    )]
    pub app_log: PathBuf,

    /// A line for each request goes to this file; `-` is stdout
    #[arg(
        long,
        env = "HANDOFF_ACCESS_LOG",
        value_name = "FILE",
        help_heading = "Looking on"
    )]
    pub access_log: Option<PathBuf>,

    /// The form of such a line
    #[arg(
        long,
        env = "HANDOFF_ACCESS_LOG_FORMAT",
        value_enum,
        default_value = "common",
        help_heading = "Looking on"
    )]
    pub access_log_format: AccessForm,

    /// Give each request an X-Request-ID that has none, for the app, the access log and the client
    #[arg(long, env = "HANDOFF_REQUEST_ID", help_heading = "Looking on")]
    pub request_id: bool,

    /// Run this when a release is refused, the app crashes or does not start and nothing else serves,
    /// requests go back to an earlier release, or it serves again: a program and its arguments,
    /// separated by blanks. It gets JSON on stdin
    #[arg(
        long,
        env = "HANDOFF_ON_EVENT",
        value_name = "COMMAND",
        help_heading = "Looking on"
    )]
    pub on_event: Option<String>,
}
