//! The commands.

#[cfg(target_os = "linux")]
pub mod bench;
#[cfg(target_os = "linux")]
pub mod compare;
pub mod demo;
#[cfg(target_os = "linux")]
pub mod instructions;
pub mod run;
pub mod soak;

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::deploy::StrategyError;
use crate::host::binaries::BinariesError;
use crate::host::process::last_lines;
use crate::host::system::WineError;
use crate::report::part::Part;
use crate::report::table::Style;
use crate::report::{self, Report, totals};
use crate::session::SessionError;

/// Number of lines of a log that explain a failure.
const LOG_LINES: usize = 30;

/// An error of a command that fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    #[error(transparent)]
    Wine(#[from] WineError),
    #[error("make the folder {folder}: {source}")]
    Folder { folder: PathBuf, source: io::Error },
    #[error("make the releases: {0}")]
    Releases(io::Error),
    #[error("write {file}: {source}")]
    Write { file: PathBuf, source: io::Error },
    #[error("read {file}: {source}")]
    Read { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
    #[error("{0}")]
    Other(String),
}

/// Destinations of a report besides standard output.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// Folder of the totals and the picture.
    pub record: Option<PathBuf>,
}

impl CommandError {
    pub fn folder(folder: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Folder {
            folder: folder.to_owned(),
            source,
        }
    }

    pub fn read(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read {
            file: file.to_owned(),
            source,
        }
    }

    pub fn write(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write {
            file: file.to_owned(),
            source,
        }
    }
}

/// Starts the runtime of the main thread.
pub(crate) fn runtime() -> Result<Runtime, CommandError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::Runtime)
}

/// Creates the temporary folder of a run, which is removed with the value unless it is to be kept.
pub(crate) fn create_scratch(prefix: &str, keep: bool) -> Result<TempDir, CommandError> {
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix(prefix).disable_cleanup(keep).tempdir();
    folder.map_err(CommandError::folder(&std::env::temp_dir()))
}

/// Removes the folder, or names it when it is kept.
pub(crate) fn remove_scratch(folder: TempDir, keep: bool) {
    if keep {
        eprintln!("kept {}", folder.path().display());
    } else if let Err(error) = folder.close() {
        eprintln!("loadtest: failed to remove the temporary folder: {error}");
    }
}

/// Prints and writes the report of these parts; returns whether they passed.
pub(crate) fn publish(parts: &[Part], outputs: &Outputs) -> Result<bool, CommandError> {
    let report = Report::new(parts);
    print!("{}", report::text::text(&report, Style::of_stdout()));
    if let Some(file) = &outputs.json {
        report::write_json(&report, file).map_err(CommandError::write(file))?;
    }
    if let Some(file) = &outputs.html {
        write(file, report::html::html(&report, parts))?;
    }
    if let Some(folder) = &outputs.record {
        let file = totals::file(&report, folder);
        let written = report::write_json(&totals::totals(&report), &file);
        written.map_err(CommandError::write(&file))?;
        if report.latency_withheld.is_none() {
            let picture = report::html::picture(&report, parts);
            write(&folder.join("latency.svg"), picture)?;
        }
    }
    Ok(report.passed)
}

fn write<E>(file: &Path, content: Result<String, E>) -> Result<(), CommandError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let content = content.map_err(io::Error::other);
    let written = content.and_then(|content| std::fs::write(file, content));
    written.map_err(CommandError::write(file))
}

/// Shows the last lines of the log of a failed run.
pub(crate) fn show_log(log: &Path) {
    eprintln!("\nThe last lines of the output:");
    for line in last_lines(log, LOG_LINES) {
        eprintln!("  {line}");
    }
}
