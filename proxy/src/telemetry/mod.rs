//! The log: for people or for machines, to stderr or to a file.
//!
//! A thread of its own writes it. What it cannot write in time is dropped and counted: a full pipe or
//! a network share that hangs never holds up a request.

use std::io::{self, IsTerminal as _};
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

mod log_file;
mod tail;

use log_file::{LogFile, Rotation};
pub use tail::Tail;

/// Stands for the sidecar's id in the path of a log file.
const SIDECAR: &str = "{sidecar}";
/// Lines that wait to be written; more are dropped.
const WAITING: usize = 16 * 1024;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, how and where to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is not worth it is left out.
    pub level: LevelFilter,
    /// The form of a line.
    pub format: LogFormat,
    /// Instead of stderr.
    pub file: Option<FileSettings>,
    /// Keeps the last lines too.
    pub tail: Option<Tail>,
}

/// A log file of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Its path; `{sidecar}` stands for the sidecar's id.
    pub path: PathBuf,
    /// A new one is begun before it has more bytes than this.
    pub size: u64,
    /// How many full ones are kept.
    pub keep: usize,
}

// === impl FileSettings ===

impl FileSettings {
    /// Where the log of this sidecar is.
    pub fn path_of(&self, sidecar: &str) -> PathBuf {
        match self.path.to_str() {
            Some(text) => text.replace(SIDECAR, sidecar).into(),
            None => self.path.clone(),
        }
    }
}

/// The log, as long as it is written. What waits is written when it is dropped.
#[derive(Debug)]
pub struct Log {
    _writer: WorkerGuard,
}

/// How many lines were dropped so far; known once the writer's thread runs.
type Dropped = Arc<OnceLock<ErrorCounter>>;

/// Starts to log for this sidecar. Only `main` may do this, once.
pub fn init(settings: &Settings, sidecar: &str) -> Log {
    let thread = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING)
        .thread_name("log");
    let dropped = Dropped::default();
    let (writer, guard) = match &settings.file {
        None => thread.finish(io::stderr()),
        Some(file) => {
            let rotation = Rotation {
                size: file.size,
                keep: file.keep,
            };
            let log_file = LogFile::new(file, sidecar, rotation, Arc::clone(&dropped));
            eprintln!("handoff: the log is in {}", log_file.path().display());
            thread.finish(log_file)
        }
    };
    let _ = dropped.set(writer.error_counter());
    let tail = settings.tail.clone().map(|tail| {
        tail.ask(writer.error_counter());
        fmt::layer()
            .with_ansi(false)
            .with_target(false)
            .with_writer(tail)
    });
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(settings.file.is_none() && io::stderr().is_terminal())
        .with_target(false);
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // The level is the subscriber's own, so that what nobody wants costs nothing.
    registry()
        .with(settings.level)
        .with(tail)
        .with(lines)
        .init();
    if settings.file.is_some() {
        let to_stderr = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            tracing::error!("{panicked}");
            to_stderr(panicked);
        }));
    }
    Log { _writer: guard }
}
