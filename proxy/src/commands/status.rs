//! `handoff status`: what the sidecars of a deployment do.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use console::Term;
use serde_json::{Value, json};

use super::place::{PlaceError, Where};
use super::sidecars::Sidecars;
use super::{Ending, table, told};
use crate::control_plane::status::UnixMillis;

const SCHEMA: u32 = 1;
/// So many handoffs of each sidecar are shown; `handoff history` has them all.
const HANDOFFS: usize = 10;
const REDRAW: Duration = Duration::from_secs(1);

const EXIT_CODES: &str = "\
Exit codes:
  0  a sidecar lives
  2  the command line makes no sense
  4  none does";

/// Show what the sidecars run, since when, what drains, and why the last one failed.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct ShowStatus {
    #[command(flatten)]
    place: Where,

    /// Go on showing it (until Ctrl-C)
    #[arg(long)]
    watch: bool,

    /// Print what they publish, as JSON
    #[arg(long)]
    json: bool,
}

/// Shows it on stdout.
pub fn run(options: &ShowStatus) -> Ending {
    told(show(options))
}

fn show(options: &ShowStatus) -> Result<Ending, PlaceError> {
    let state = options.place.state()?;
    let mut sidecars = Sidecars::of(&state);
    loop {
        sidecars.look();
        if options.watch && Term::stdout().is_term() {
            let _ = Term::stdout().clear_screen();
        }
        match options.json {
            true => println!("{}", as_json(&state, &sidecars)),
            false => print!("{}", as_text(&state, &sidecars)),
        }
        if !options.watch {
            return match sidecars.all_with_life().any(|(_, lives)| lives) {
                true => Ok(Ending::Done),
                false => Ok(Ending::Idle),
            };
        }
        sleep(REDRAW);
    }
}

fn as_text(state: &Path, sidecars: &Sidecars) -> String {
    let now = UnixMillis::now();
    let mut all: Vec<_> = sidecars.all_with_life().collect();
    // The living first, and of those the oldest.
    all.sort_by_key(|(status, lives)| (!lives, status.started_ms));
    let shown: Vec<_> = all
        .into_iter()
        .map(|(status, lives)| table::sidecar(status, lives, HANDOFFS, now))
        .collect();
    match shown.is_empty() {
        true => format!("no sidecar has published anything in {state:?}\n"),
        false => shown.join("\n"),
    }
}

fn as_json(state: &Path, sidecars: &Sidecars) -> Value {
    let sidecars: Vec<_> = sidecars
        .all_with_life()
        .map(|(status, lives)| json!({"alive": lives, "status": status}))
        .collect();
    json!({"schema": SCHEMA, "state": state, "sidecars": sidecars})
}
