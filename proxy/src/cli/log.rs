//! Options about the log.

use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::filter::LevelFilter;

use super::artifacts::size;
use super::observing::Observing;
use crate::telemetry::LogFormat;

/// What is logged, how and where to.
#[derive(Args, Clone, Debug)]
pub struct Log {
    /// off, error, warn, info, debug or trace
    #[arg(
        long,
        env = "HANDOFF_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Log"
    )]
    pub log_level: LevelFilter,

    /// Log to this file and not to stderr; `-` is stderr. It may hold {sidecar}, which has to be
    /// there where several sidecars run [default: stderr; on Azure App Service
    /// %HOME%\LogFiles\handoff-{sidecar}.log]
    #[arg(
        long,
        env = "HANDOFF_LOG_FILE",
        value_name = "FILE|-",
        help_heading = "Log"
    )]
    pub log_file: Option<PathBuf>,

    /// A new log file is begun before one is larger
    #[arg(
        long,
        env = "HANDOFF_LOG_FILE_SIZE",
        value_name = "SIZE",
        default_value = "10MiB",
        value_parser = size,
        help_heading = "Log"
    )]
    pub log_file_size: u64,

    /// How many full log files are kept
    #[arg(
        long,
        env = "HANDOFF_LOG_FILE_KEEP",
        value_name = "N",
        default_value_t = 3,
        help_heading = "Log"
    )]
    pub log_file_keep: usize,

    /// The form of a log line
    #[arg(
        long,
        env = "HANDOFF_LOG_FORMAT",
        value_enum,
        default_value = "text",
        help_heading = "Log"
    )]
    pub log_format: LogFormat,

    /// What else is shown and told.
    #[command(flatten)]
    pub observing: Observing,
}
