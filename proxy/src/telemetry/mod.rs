//! The log: for people or for machines, to stderr or to a file.
//!
//! Threads of their own write it and what else goes to files ([`queue`]): a full pipe or a network
//! share that hangs never holds up a request, nor the app.

use std::io::{self, IsTerminal as _, Write as _};
use std::panic;
use std::path::PathBuf;
use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, registry, reload};

mod log_file;
pub mod queue;
pub mod sinks;
mod tail;

use log_file::LogFile;
pub use queue::{Queue, Writing};
pub use tail::Tail;

/// Stands for the sidecar's id in the path of a log file.
const SIDECAR: &str = "{sidecar}";
/// Bytes that wait to be written; of more the oldest lines are dropped.
const WAITING: usize = 4 << 20;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

fn missing_here(lines: u64) -> Option<String> {
    Some(format!("handoff: {lines} lines were dropped here\n"))
}

/// Whose lines may be JSON, among which a sentence would be out of place.
fn missing_elsewhere(lines: u64) -> Option<String> {
    let thread = std::thread::current();
    let of = thread.name().unwrap_or_default();
    tracing::warn!(
        of,
        lines,
        "lines were dropped: they could not be written in time"
    );
    None
}

/// A file of lines that is rotated as the log is, written by a thread of its own; without a file it is
/// stdout.
///
/// # Errors
/// When there is no thread to be had.
pub fn lines_to(
    file: Option<&FileSettings>,
    name: &str,
    sidecar: &str,
) -> io::Result<(Queue, Writing)> {
    match file {
        None => Queue::start(name, WAITING, missing_elsewhere, io::stdout()),
        Some(file) => Queue::start(
            name,
            WAITING,
            missing_elsewhere,
            LogFile::new(file, sidecar),
        ),
    }
}

/// The log, as long as it is written. What waits is written when it is dropped.
#[derive(Debug)]
pub struct Log {
    _writing: Writing,
}

/// What is logged, as there is one log: see [`set_level`].
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Logs what is worth this from now on.
pub fn set_level(level: LevelFilter) {
    if let Some(handle) = LEVEL.get() {
        // The subscriber is there as long as the process is.
        let _ = handle.reload(level);
    }
}

/// Starts to log for this sidecar. Only `main` may do this, once.
///
/// # Errors
/// When there is no thread to be had.
pub fn init(settings: &Settings, sidecar: &str) -> io::Result<Log> {
    let (writer, writing) = match &settings.file {
        None => Queue::start("log", WAITING, missing_here, io::stderr())?,
        Some(file) => {
            let log_file = LogFile::new(file, sidecar);
            // Perhaps nobody listens there.
            let path = log_file.path().display();
            let _ = writeln!(io::stderr(), "handoff: the log is in {path}");
            Queue::start("log", WAITING, missing_here, log_file)?
        }
    };
    let tail = settings.tail.clone().map(|tail| {
        tail.ask("log", &writer);
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
    let (level, handle) = reload::Layer::new(settings.level);
    let _ = LEVEL.set(handle);
    registry().with(level).with(tail).with(lines).init();
    if settings.file.is_some() {
        let to_stderr = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            tracing::error!("{panicked}");
            to_stderr(panicked);
        }));
    }
    Ok(Log { _writing: writing })
}
