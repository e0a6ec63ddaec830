//! `handoff history`: shows every launch that the sidecars list.

use serde_json::json;

use super::deployment_paths::UnknownDeployment;
use super::sidecars::Sidecars;
use super::{ELSEWHERE, ExitStatus, exit_status_of, table, upgrade};
use crate::cli::output::{eprint_line, print_json, print_line, print_styled};
use crate::cli::queries::HistoryArgs;
use crate::deployment::status::UnixMillis;
use crate::os::terminal::printable;

const SCHEMA: u32 = 1;

/// Prints the launches on stdout, oldest first.
pub fn run(options: &HistoryArgs) -> ExitStatus {
    exit_status_of(show(options))
}

fn show(options: &HistoryArgs) -> Result<ExitStatus, UnknownDeployment> {
    let state = options.deployment.enter()?;
    let mut sidecars = Sidecars::of(&state);
    sidecars.refresh();
    let exit_status = match sidecars.all().next() {
        Some(_) => ExitStatus::Done,
        None => ExitStatus::Idle,
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
    let mut upgrades: Vec<_> = sidecars
        .all()
        .flat_map(|status| {
            let anchored = status.anchored.iter();
            let upgrades = anchored.flat_map(|anchored| &anchored.upgrade_history);
            upgrades.map(|upgrade| (&status.sidecar, upgrade))
        })
        .collect();
    upgrades.sort_by_key(|(_, upgrade)| upgrade.at_ms);
    if options.json {
        let handoffs: Vec<_> = all
            .into_iter()
            .map(|(sidecar, handoff)| json!({"sidecar": sidecar, "handoff": handoff}))
            .collect();
        let upgrades = upgrades.into_iter();
        let upgrades: Vec<_> = upgrades
            .map(|(sidecar, upgrade)| json!({"sidecar": sidecar, "upgrade": upgrade}))
            .collect();
        print_json(&json!({"schema": SCHEMA, "handoffs": handoffs, "upgrades": upgrades}));
        return Ok(exit_status);
    }
    if exit_status == ExitStatus::Idle {
        eprint_line(format_args!(
            "handoff: no sidecar has published anything in {state:?}; {ELSEWHERE}"
        ));
    } else if all.is_empty() {
        print_line("nothing has been launched yet");
    } else {
        let is_one = sidecars.all().count() == 1;
        let handoffs = all
            .into_iter()
            .map(|(sidecar, handoff)| (Some(&**sidecar).filter(|_| !is_one), handoff));
        print_styled(&table::handoffs(handoffs, UnixMillis::now()));
    }
    for (sidecar, upgrade) in upgrades {
        let since = table::between(upgrade.at_ms, UnixMillis::now());
        let line = upgrade::line(upgrade, &since);
        print_line(format_args!("sidecar {sidecar}: {}", printable(&line)));
    }
    Ok(exit_status)
}
