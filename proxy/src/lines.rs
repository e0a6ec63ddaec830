//! The lines that are not handoff's own: what apps write, and one for each request.
//!
//! It is beside `app`: it joins who has such lines, [`process`](crate::process) and
//! [`data_plane`](crate::data_plane), with who writes them, [`telemetry`].

use std::io;
use std::sync::Arc;

use crate::config::Config;
use crate::data_plane::{AccessForm, AccessLog, AccessSink};
use crate::process::AppLog;
use crate::process::command::OsLauncher;
use crate::telemetry::{self, FileSettings, Queue, Writing};

/// Where they go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What apps write.
    pub app: App,
    /// A line for each request, if anybody wants them.
    pub access: Option<Access>,
}

/// Where it goes what apps write.
#[derive(Clone, Debug)]
pub enum App {
    /// Into the log, marked.
    Log,
    /// To stdout, as it is.
    Raw,
    /// Into a file, marked.
    File(FileSettings),
}

/// A line for each request.
#[derive(Clone, Debug)]
pub struct Access {
    /// How it looks.
    pub form: AccessForm,
    /// Else stdout.
    pub file: Option<FileSettings>,
}

/// A queue that takes batches of lines.
#[derive(Debug)]
struct Batches(Queue);

// === impl App ===

impl App {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&FileSettings> {
        match self {
            Self::File(file) => Some(file),
            Self::Log | Self::Raw => None,
        }
    }
}

/// Opens what the configuration wants. What waits is written when this is dropped.
///
/// # Errors
/// When there is no thread to be had.
pub fn open(
    config: &mut Config,
    launcher: &mut OsLauncher,
    sidecar: &str,
) -> io::Result<Vec<Writing>> {
    let mut all = Vec::new();
    let tail = config.log.tail.clone();
    let mut open = |file: Option<&FileSettings>, name| {
        let (queue, writing) = telemetry::lines_to(file, name, sidecar)?;
        if let Some(tail) = &tail {
            tail.ask(name, &queue);
        }
        all.push(writing);
        io::Result::Ok(queue)
    };
    let file = match &config.lines.app {
        App::Log => None,
        App::Raw => Some(None),
        App::File(file) => Some(Some(file)),
    };
    if let Some(file) = file {
        let queue = open(file, "app-log")?;
        let is_marked = file.is_some();
        let tail = config.log.tail.clone();
        launcher.set_app_log(AppLog::new(move |generation, release, line| {
            let mark = match is_marked {
                true => format!("{generation} {release} | "),
                false => String::new(),
            };
            queue.push([mark.as_bytes(), line, b"\n"].concat(), 1);
            if let Some(tail) = &tail {
                tail.push(line);
            }
        }));
    }
    if let Some(Access { form, file }) = &config.lines.access {
        let queue = open(file.as_ref(), "access-log")?;
        config.data_plane.access_log = Some(AccessLog {
            form: *form,
            sink: Arc::new(Batches(queue)),
        });
    }
    Ok(all)
}

impl AccessSink for Batches {
    fn write(&self, text: Vec<u8>, lines: u64) {
        self.0.push(text, lines);
    }
}
