//! `handoff logs`: shows the log files of the sidecars and their apps.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;

use serde_json::{Value, json};

use self::tail::Tail;
use super::deployment_paths::UnknownDeployment;
use super::follow::POLL_INTERVAL;
use super::sidecars::Sidecars;
use super::{ELSEWHERE, ExitStatus, exit_status_of};
use crate::cli::output::eprint_line;
use crate::cli::queries::LogsArgs;
use crate::deployment::status::Status;
use crate::os::rights::explain;
use crate::os::terminal::{printable, printable_json};

mod tail;

/// Prints the log files on stdout.
pub fn run(options: &LogsArgs) -> ExitStatus {
    exit_status_of(show(options))
}

fn show(options: &LogsArgs) -> Result<ExitStatus, UnknownDeployment> {
    let state = options.deployment.enter()?;
    let mut sidecars = Sidecars::of(&state);
    sidecars.refresh();
    let last = last_log(&state);
    if sidecars.all().next().is_none() && last.is_none() {
        eprint_line(format_args!(
            "handoff: no sidecar has published anything in {state:?}; {ELSEWHERE}"
        ));
        return Ok(ExitStatus::Idle);
    }
    let mut shown = LogPrinter {
        json: options.json,
        ..LogPrinter::default()
    };
    let mut problems = Vec::new();
    let mut logs = of_the_living(&sidecars);
    if logs.is_empty() {
        logs.extend(last.map(|(sidecar, file)| (sidecar, Some(file))));
    }
    for (sidecar, file) in logs {
        match file {
            None => problems.push(format!(
                "sidecar {sidecar} has no log file, it logs to stderr, wherever that goes (under \
                 systemd `journalctl --unit NAME` shows it); run it without `--log-file -`, or with \
                 --log-file FILE, to have one"
            )),
            Some(file) => match Tail::open(&file, options.lines) {
                Ok(tail) => {
                    shown.tails.insert(file, (sidecar, tail));
                }
                Err(error) => problems.push(format!(
                    "cannot read {file:?}, the log file of sidecar {sidecar}: {}",
                    explain(error)
                )),
            },
        }
    }
    for problem in &problems {
        eprint_line(format_args!("handoff: {problem}"));
    }
    if shown.tails.is_empty() {
        return Ok(ExitStatus::Refused);
    }
    // A closed stdout ends `--follow`.
    while shown.print().is_ok() && options.follow {
        sleep(POLL_INTERVAL);
        sidecars.refresh();
        for (sidecar, file) in of_the_living(&sidecars) {
            let Some(file) = file else {
                continue;
            };
            // The next sidecar may continue the file of the one before.
            if let Some((writes, _)) = shown.tails.get_mut(&file) {
                *writes = sidecar;
            } else if let Ok(tail) = Tail::open(&file, usize::MAX) {
                shown.tails.insert(file, (sidecar, tail));
            }
        }
    }
    Ok(ExitStatus::Done)
}

/// Returns each live sidecar with its log file, or else the sidecar that died last.
fn of_the_living(sidecars: &Sidecars) -> Vec<(Arc<str>, Option<PathBuf>)> {
    let log = |status: &Status| (Arc::clone(&status.sidecar), status.log_file.clone());
    let living = sidecars.with_liveness();
    let living = living.filter(|(_, liveness)| liveness.is_alive());
    let living: Vec<_> = living.map(|(status, _)| log(status)).collect();
    if !living.is_empty() {
        return living;
    }
    let last = sidecars.all().max_by_key(|status| status.heartbeat_ms);
    last.map(log).into_iter().collect()
}

/// Returns the newest default log file, with its sidecar: one that has ended publishes no status.
fn last_log(state: &Path) -> Option<(Arc<str>, PathBuf)> {
    let files = fs::read_dir(state.join("log")).ok()?.flatten();
    let files = files.filter_map(|entry| {
        let path = entry.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let written = entry.metadata().ok()?.modified().ok()?;
        is_log.then_some((written, path))
    });
    let (_, path) = files.max()?;
    Some((path.file_stem()?.to_string_lossy().into(), path))
}

/// The log files that are shown.
#[derive(Default)]
struct LogPrinter {
    /// The files, each with the sidecar that writes it.
    tails: BTreeMap<PathBuf, (Arc<str>, Tail)>,
    last: Option<Arc<str>>,
    json: bool,
}

impl LogPrinter {
    /// Prints the lines that are new.
    fn print(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let is_one_of_many = self.tails.len() > 1;
        for (sidecar, tail) in self.tails.values_mut() {
            let lines = tail.lines();
            if lines.is_empty() {
                continue;
            }
            if is_one_of_many && !self.json && self.last.as_ref() != Some(sidecar) {
                writeln!(stdout, "==> sidecar {} <==", printable(sidecar))?;
            }
            self.last = Some(Arc::clone(sidecar));
            for line in lines {
                if self.json {
                    let json = as_json(sidecar, &line).to_string();
                    writeln!(stdout, "{}", printable_json(&json))?
                } else {
                    writeln!(stdout, "{}", printable(&line))?
                }
            }
        }
        stdout.flush()
    }
}

/// Returns a line as JSON: one of `--log-format json` as the object that it is, with the sidecar.
fn as_json(sidecar: &str, line: &str) -> Value {
    if let Ok(Value::Object(mut object)) = serde_json::from_str(line) {
        object.insert("sidecar".to_owned(), sidecar.into());
        return Value::Object(object);
    }
    json!({"sidecar": sidecar, "line": line})
}
