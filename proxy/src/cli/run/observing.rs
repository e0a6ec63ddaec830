//! Options about the log and other views of a running sidecar.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::cli::values::Size;
use crate::data_plane::AccessForm;
use crate::process::announcement::NotifyRequest;
use crate::telemetry::LogFormat;

/// The log. Its level is in [`ReloadableOptions`](super::ReloadableOptions).
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// File to log to instead of stderr; `-` is stderr alone [default: stderr, and `handoff logs`
    /// finds the last 2 MiB in log/{sidecar}.log in the state folder; on Azure App Service
    /// %HOME%\LogFiles\handoff-{sidecar}.log]
    ///
    /// It may contain {sidecar}, and has to if several sidecars run.
    #[arg(long, value_name = "FILE|-")]
    pub log_file: Option<PathBuf>,

    /// Maximum size of a log file; a new one is begun before it grows larger
    #[arg(long, default_value = "10MiB")]
    pub log_file_size: Size,

    /// Number of full log files to keep
    #[arg(long, default_value_t = 3)]
    pub log_file_keep: usize,

    /// Format of log lines
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// The app's output, the access log, the admin endpoint and the event hook.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Observability")]
pub struct ObservabilityOptions {
    /// Loopback address for metrics, status and a web page, such as 127.0.0.1:9900 [default: none]
    #[arg(long)]
    pub admin: Option<SocketAddr>,

    /// Destination of the app's output: `prefix` (the log), `raw` (stdout, unchanged) or a file
    ///
    /// In the log and in a file, each line starts with the instance's generation and release, and with
    /// stdout or stderr.
    #[arg(long, value_name = "prefix|raw|FILE", default_value = "prefix")]
    pub app_log: PathBuf,

    /// File for the access log, which has a line per request; `-` is stdout [default: none]
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Format of access log lines
    #[arg(long, value_enum, default_value = "common")]
    pub access_log_format: AccessForm,

    /// Add an X-Request-ID to each request without one, for the app, the access log and the client
    #[arg(long)]
    pub request_id: bool,

    /// Event hook: a program and its arguments, separated by blanks, which gets JSON on stdin
    ///
    /// It runs when a release is promoted, superseded or refused; when the app crashes, does not
    /// respond, or fails to start while nothing else serves; when requests go back to an earlier
    /// release; and when the app serves again.
    #[arg(long, value_name = "COMMAND")]
    pub on_event: Option<String>,

    /// Request to each instance at a change of its state: http:METHOD:/PATH, with a body such as
    /// {"state":"active","release":"shop-016f6eb2"} [default: none]
    ///
    /// The states are active, superseded, standby and stopping. Nothing waits for the answer. The
    /// file that the app's variable HANDOFF_STATE_FILE names holds the same.
    #[arg(long, value_name = "http:METHOD:/PATH")]
    pub notify: Option<NotifyRequest>,
}
