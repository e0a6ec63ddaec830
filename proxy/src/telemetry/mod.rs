//! The log of handoff, and the files and queues behind it.
//!
//! Threads of their own write to pipes and files ([`queue`]): a full pipe or a network share that
//! hangs never delays a request or the app.

use std::io::{self, IsTerminal as _, Write as _};
use std::panic;
use std::path::PathBuf;
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

use self::queue::MAX_QUEUED;
use crate::os::terminal;

mod line_format;
mod log_file;
mod printable;
pub mod queue;
pub mod sinks;
mod tail;
mod text_fields;

use line_format::LineFormat;
use log_file::LogFile;
pub use log_file::{LogFileSettings, reopen_log_files};
use printable::Printable;
pub use queue::{Queue, QueueWriter};
pub use tail::Tail;
use text_fields::TextFields;

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// JSON, one object per line.
    Json,
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Level from which lines are written.
    pub level: LevelFilter,
    /// Format of a line.
    pub format: LogFormat,
    /// Destination; stderr if there is none.
    pub file: Option<LogFileSettings>,
    /// File that receives the lines in addition.
    pub copy: Option<LogFileSettings>,
    /// Buffer that keeps the last lines too.
    pub tail: Option<Tail>,
}

/// Guard of the log. Dropping it writes the lines that are still queued.
#[derive(Debug)]
pub struct LogGuard {
    _writers: Vec<QueueWriter>,
}

// === impl LogSettings ===

impl LogSettings {
    /// Returns the path of the file with the lines of this sidecar, if there is one.
    pub fn path_of(&self, sidecar: &str) -> Option<PathBuf> {
        let file = self.file.as_ref().or(self.copy.as_ref())?;
        Some(file.path_of(sidecar))
    }
}

/// Handle to the level of the log, of which a process has one.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Changes the level from which lines are written.
pub fn set_level(level: LevelFilter) {
    if let Some(handle) = LEVEL.get() {
        // Fails only without the subscriber, which lives as long as the process.
        let _ = handle.reload(level);
    }
}

/// Starts the log of this sidecar. Only `main` may call this, once.
pub fn init(settings: &LogSettings, sidecar: &str) -> io::Result<LogGuard> {
    let (queue, writer) = match &settings.file {
        None => Queue::start("log", MAX_QUEUED, note_dropped, io::stderr())?,
        Some(file) => {
            let log_file = LogFile::new(file, sidecar);
            // Fails where stderr is closed.
            let path = log_file.path().display();
            let _ = writeln!(io::stderr(), "handoff: the log is in {path}");
            Queue::start("log", MAX_QUEUED, note_dropped, log_file)?
        }
    };
    let mut writers = vec![writer];
    let copy = match &settings.copy {
        None => None,
        Some(file) => {
            let log_file = LogFile::beside_stderr(file, sidecar);
            let (queue, writer) = Queue::start("log-copy", MAX_QUEUED, note_dropped, log_file)?;
            writers.push(writer);
            Some(lines_layer(settings.format, queue, false))
        }
    };
    let tail = settings.tail.clone().map(|tail| {
        tail.watch_queue("log", &queue);
        fmt::layer()
            .with_ansi(false)
            .with_target(false)
            .with_writer(Printable::new(tail, LogFormat::Text, false))
            .fmt_fields(TextFields)
            .map_event_format(|inner| LineFormat::new(inner, LogFormat::Text))
    });
    let is_coloured = settings.file.is_none() && io::stderr().is_terminal() && !forbids_colour();
    let lines = lines_layer(settings.format, queue, is_coloured);
    // A filter of the whole subscriber: events below the level cost nothing.
    let (level, handle) = reload::Layer::new(settings.level);
    let _ = LEVEL.set(handle);
    registry()
        .with(level)
        .with(filter_fn(|metadata| is_own(metadata.target())))
        .with(tail)
        .with(copy)
        .with(lines)
        .init();
    if settings.file.is_some() {
        let to_stderr = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            tracing::error!(event = "panicked", "{panicked}");
            to_stderr(panicked);
        }));
    }
    Ok(LogGuard { _writers: writers })
}

/// Returns `true` for an event of handoff, or a line of its app. Those of libraries name no event, and a
/// client can cause any number of some of them.
fn is_own(target: &str) -> bool {
    target.starts_with("handoff") || target == line_format::APP_TARGET
}

/// Returns the layer that writes lines of this format into a queue.
fn lines_layer<S>(
    format: LogFormat,
    queue: Queue,
    is_coloured: bool,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer()
        .with_writer(Printable::new(queue, format, is_coloured))
        .with_ansi(is_coloured)
        .with_target(false);
    match format {
        LogFormat::Text => lines
            .fmt_fields(TextFields)
            .map_event_format(|inner| LineFormat::new(inner, LogFormat::Text))
            .boxed(),
        LogFormat::Json => lines
            .json()
            .map_event_format(|inner| LineFormat::new(inner, LogFormat::Json))
            .boxed(),
    }
}

/// Returns whether the user wants no colours (no-color.org), or the terminal has none.
fn forbids_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || terminal::is_dumb()
}

/// Returns the line that stands for dropped ones in the log.
fn note_dropped(lines: u64) -> Option<String> {
    Some(format!("handoff: {lines} lines were dropped here\n"))
}
