//! `handoff history`: every launch that the sidecars remember.

use clap::Args;
use serde_json::json;

use super::place::{PlaceError, Where};
use super::sidecars::Sidecars;
use super::{Ending, table, told};
use crate::control_plane::status::UnixMillis;

const SCHEMA: u32 = 1;

/// Show every launch that the sidecars remember, and what became of it.
#[derive(Args, Clone, Debug)]
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
        println!("{}", json!({"schema": SCHEMA, "handoffs": handoffs}));
        return Ok(Ending::Done);
    }
    let handoffs = all.into_iter().map(|(_, handoff)| handoff);
    println!("{}", table::handoffs(handoffs, UnixMillis::now()));
    Ok(Ending::Done)
}
