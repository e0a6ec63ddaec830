//! `handoff logs`: what the sidecars and their apps have written to the log files.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;

use clap::Args;
use serde_json::json;

use self::tail::Tail;
use super::follow::LOOK;
use super::place::{PlaceError, Where};
use super::say::tell;
use super::sidecars::Sidecars;
use super::{ELSEWHERE, Ending, told};
use crate::deployment::status::Status;

mod tail;

const EXIT_CODES: &str = "\
Exit codes:
  0  shown
  1  there is no log file, or it cannot be read
  2  the command line makes no sense
  4  no sidecar has published anything";

/// Show the log files of the sidecars that live, or else of the one that lived last.
///
/// They have one only with --log-file, and on Azure App Service. Full files, which have a number in
/// their names, are read too.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Logs {
    #[command(flatten)]
    place: Where,

    /// Go on showing them (until Ctrl-C), also those of sidecars that come later
    #[arg(long, short)]
    follow: bool,

    /// So many lines of what is there already
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,

    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
}

/// Shows them on stdout.
pub fn run(options: &Logs) -> Ending {
    told(show(options))
}

fn show(options: &Logs) -> Result<Ending, PlaceError> {
    let state = options.place.state()?;
    let mut sidecars = Sidecars::of(&state);
    sidecars.look();
    if sidecars.all().next().is_none() {
        tell(format_args!(
            "handoff: no sidecar has published anything in {state:?}; {ELSEWHERE}"
        ));
        return Ok(Ending::Idle);
    }
    let mut shown = Shown {
        json: options.json,
        ..Shown::default()
    };
    let mut problems = Vec::new();
    for (sidecar, file) in of_the_living(&sidecars) {
        match file {
            None => problems.push(format!(
                "sidecar {sidecar} has no log file, it logs to stderr, wherever that goes (under \
                 systemd `journalctl --unit NAME` shows it); to have one, run it with --log-file \
                 FILE"
            )),
            Some(file) => match Tail::open(&file, options.lines) {
                Ok(tail) => {
                    shown.tails.insert(file, (sidecar, tail));
                }
                Err(error) => problems.push(format!(
                    "cannot read {file:?}, the log file of sidecar {sidecar}: {error}"
                )),
            },
        }
    }
    for problem in &problems {
        tell(format_args!("handoff: {problem}"));
    }
    if shown.tails.is_empty() {
        return Ok(Ending::Refused);
    }
    // Who reads it no more has seen enough.
    while shown.print().is_ok() && options.follow {
        sleep(LOOK);
        sidecars.look();
        for (sidecar, file) in of_the_living(&sidecars) {
            let Some(file) = file else {
                continue;
            };
            // The next sidecar may go on with the file of the one before.
            if let Some((writes, _)) = shown.tails.get_mut(&file) {
                *writes = sidecar;
            } else if let Ok(tail) = Tail::open(&file, usize::MAX) {
                shown.tails.insert(file, (sidecar, tail));
            }
        }
    }
    Ok(Ending::Done)
}

/// Each sidecar, and its log file.
fn of_the_living(sidecars: &Sidecars) -> Vec<(Arc<str>, Option<PathBuf>)> {
    let log = |status: &Status| (Arc::clone(&status.sidecar), status.log_file.clone());
    let living = sidecars.all_with_life().filter(|(_, lives)| *lives);
    let living: Vec<_> = living.map(|(status, _)| log(status)).collect();
    if !living.is_empty() {
        return living;
    }
    let last = sidecars.all().max_by_key(|status| status.heartbeat_ms);
    last.map(log).into_iter().collect()
}

/// What is shown, and how.
#[derive(Default)]
struct Shown {
    /// By their paths, and whose each is.
    tails: BTreeMap<PathBuf, (Arc<str>, Tail)>,
    last: Option<Arc<str>>,
    json: bool,
}

impl Shown {
    /// Prints what is new.
    fn print(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let is_one_of_many = self.tails.len() > 1;
        for (sidecar, tail) in self.tails.values_mut() {
            let lines = tail.lines();
            if lines.is_empty() {
                continue;
            }
            if is_one_of_many && !self.json && self.last.as_ref() != Some(sidecar) {
                writeln!(stdout, "==> sidecar {sidecar} <==")?;
            }
            self.last = Some(Arc::clone(sidecar));
            for line in lines {
                match self.json {
                    true => writeln!(stdout, "{}", json!({"sidecar": sidecar, "line": line}))?,
                    false => writeln!(stdout, "{line}")?,
                }
            }
        }
        stdout.flush()
    }
}
