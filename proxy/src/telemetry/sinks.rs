//! Outputs for lines that are not handoff's own log: what apps write, and one line per request.

use std::io;
use std::sync::Arc;

use super::log_file::{LogFile, LogFileSettings};
use super::queue::{MAX_QUEUED, Queue, QueueWriter};
use super::tail::Tail;
use crate::data_plane::{AccessForm, AccessLog, AccessSink};
use crate::os::terminal::printable;
use crate::process::AppLog;

/// Destinations of the apps' output and of the access log.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Destination of what apps write.
    pub app: AppSink,
    /// Access log, unless it is off.
    pub access: Option<AccessLogSettings>,
}

/// Destination of what apps write.
#[derive(Clone, Debug)]
pub enum AppSink {
    /// Handoff's own log, each line marked with its origin.
    Log,
    /// Standard output, unchanged.
    Raw,
    /// A file, each line marked with its origin.
    File(LogFileSettings),
}

/// Settings of the access log.
#[derive(Clone, Debug)]
pub struct AccessLogSettings {
    /// Format of a line.
    pub form: AccessForm,
    /// Destination; standard output if there is none.
    pub file: Option<LogFileSettings>,
}

/// The open sinks. Dropping it writes what is still queued.
#[derive(Debug)]
pub struct Sinks {
    /// Receiver of the apps' lines, unless they go to handoff's own log.
    pub app_log: Option<AppLog>,
    /// Receiver of the access log's lines, if there is one.
    pub access_log: Option<AccessLog>,
    /// Threads that write the queued lines.
    pub writers: Vec<QueueWriter>,
}

/// A queue that takes batches of lines.
#[derive(Debug)]
struct Batches(Queue);

// === impl AppSink ===

impl AppSink {
    /// Returns the file, if it is one.
    pub fn file(&self) -> Option<&LogFileSettings> {
        match self {
            Self::File(file) => Some(file),
            Self::Log | Self::Raw => None,
        }
    }
}

/// Opens the files and starts the threads that write them.
pub fn open(settings: &SinkSettings, tail: Option<&Tail>, sidecar: &str) -> io::Result<Sinks> {
    let mut writers = Vec::new();
    let mut open = |file: Option<&LogFileSettings>, name| {
        let (queue, writer) = open_queue(file, name, sidecar)?;
        if let Some(tail) = tail {
            tail.watch_queue(name, &queue);
        }
        writers.push(writer);
        io::Result::Ok(queue)
    };
    let app_log = match &settings.app {
        AppSink::Log => None,
        AppSink::Raw => Some(raw_app_log(open(None, "app-log")?, tail.cloned())),
        AppSink::File(file) => Some(marked_app_log(open(Some(file), "app-log")?, tail.cloned())),
    };
    let access_log = match &settings.access {
        Some(AccessLogSettings { form, file }) => Some(AccessLog {
            form: *form,
            sink: Arc::new(Batches(open(file.as_ref(), "access-log")?)),
        }),
        None => None,
    };
    Ok(Sinks {
        app_log,
        access_log,
        writers,
    })
}

/// Opens a file of lines that is rotated as the log is; standard output without a file.
fn open_queue(
    file: Option<&LogFileSettings>,
    name: &str,
    sidecar: &str,
) -> io::Result<(Queue, QueueWriter)> {
    match file {
        None => Queue::start(name, MAX_QUEUED, warn_of_dropped, io::stdout()),
        Some(file) => Queue::start(
            name,
            MAX_QUEUED,
            warn_of_dropped,
            LogFile::new(file, sidecar),
        ),
    }
}

/// Logs that lines were dropped. The lines themselves may be JSON, among which no note may stand.
fn warn_of_dropped(lines: u64) -> Option<String> {
    let thread = std::thread::current();
    let of = thread.name().unwrap_or_default();
    tracing::warn!(
        event = "log_lines_dropped",
        of,
        lines,
        "lines were dropped: they could not be written in time"
    );
    None
}

/// Writes the lines of apps as they are.
fn raw_app_log(queue: Queue, tail: Option<Tail>) -> AppLog {
    AppLog::new(move |_, line| {
        queue.push([line, b"\n"].concat(), 1);
        if let Some(tail) = &tail {
            tail.push(line);
        }
    })
}

/// Writes the lines of apps behind their origin: generation, release and stream.
fn marked_app_log(queue: Queue, tail: Option<Tail>) -> AppLog {
    AppLog::new(move |origin, line| {
        let (generation, release) = (origin.generation, &origin.release);
        let mark = format!("{generation} {release} {} | ", origin.stream.name());
        let text = String::from_utf8_lossy(line);
        queue.push(format!("{mark}{}\n", printable(&text)).into_bytes(), 1);
        if let Some(tail) = &tail {
            tail.push(line);
        }
    })
}

impl AccessSink for Batches {
    fn write(&self, text: Vec<u8>, lines: u64) {
        self.0.push(text, lines);
    }
}
