//! `handoff history`: every launch that the sidecars remember.

use clap::Args;
use serde_json::json;

use super::place::{PlaceError, Where};
use super::say::{print, tell};
use super::sidecars::Sidecars;
use super::{ELSEWHERE, Ending, table, told};
use crate::deployment::status::UnixMillis;

const SCHEMA: u32 = 1;

const EXIT_CODES: &str = "\
Exit codes:
  0  shown
  2  the command line makes no sense
  4  no sidecar has published anything";

/// Show every launch that the sidecars remember, and what became of it.
///
/// Each remembers its own last fifty, for as long as it lives; and of one that was killed they stay.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct History {
    #[command(flatten)]
    place: Where,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Shows it on stdout, oldest first.
pub fn run(options: &History) -> Ending {
    told(show(options))
}

fn show(options: &History) -> Result<Ending, PlaceError> {
    let state = options.place.state()?;
    let mut sidecars = Sidecars::of(&state);
    sidecars.look();
    let ending = match sidecars.all().next() {
        Some(_) => Ending::Done,
        None => Ending::Idle,
    };
    let mut all: Vec<_> = sidecars
        .all()
        .flat_map(|status| {
            status
                .handoffs
                .iter()
                .map(|handoff| (&status.sidecar, handoff))
        })
        .collect();
    all.sort_by_key(|(_, handoff)| handoff.launched_ms);
    if options.json {
        let handoffs: Vec<_> = all
            .into_iter()
            .map(|(sidecar, handoff)| json!({"sidecar": sidecar, "handoff": handoff}))
            .collect();
        print(json!({"schema": SCHEMA, "handoffs": handoffs}));
        return Ok(ending);
    }
    if ending == Ending::Idle {
        tell(format_args!(
            "handoff: no sidecar has published anything in {state:?}; {ELSEWHERE}"
        ));
    } else if all.is_empty() {
        print("nothing has been launched yet");
    } else {
        let is_one = sidecars.all().count() == 1;
        let handoffs = all
            .into_iter()
            .map(|(sidecar, handoff)| (Some(&**sidecar).filter(|_| !is_one), handoff));
        print(table::handoffs(handoffs, UnixMillis::now()));
    }
    Ok(ending)
}
