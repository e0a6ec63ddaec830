//! `handoff upgrade`: another version of handoff goes on.

use std::env;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{ExitStatus, control, count};
use crate::cli::control::UpgradeArgs;
use crate::cli::output::{OutputFormat, eprint_line};
use crate::deployment::desired::{ControlCommand, UpgradeCommand};
use crate::deployment::status::{Status, UnixMillis, UpgradeStatus};

/// Maximum time of an upgrade that has begun.
const LONGEST_UPGRADE: Duration = Duration::from_secs(30);

/// Lets another version go on in each sidecar.
pub fn run(options: &UpgradeArgs) -> ExitStatus {
    let follow = &options.follow;
    let program = match find(options.program.clone()) {
        Ok(program) => program,
        Err((program, error)) => {
            eprint_line(format_args!("handoff: cannot run {program:?}: {error}"));
            return ExitStatus::Usage;
        }
    };
    // The sidecars give up in time, and say why.
    let timeout = *follow.timeout + LONGEST_UPGRADE;
    control::run(
        &follow.deployment,
        ControlCommand::Upgrade(UpgradeCommand::new(program, *follow.timeout)),
        timeout,
        OutputFormat::from_flag(follow.json),
    )
}

/// Returns the absolute path of the program, or of the one that runs this command.
fn find(program: Option<PathBuf>) -> Result<PathBuf, (PathBuf, io::Error)> {
    let Some(program) = program else {
        return env::current_exe().map_err(|error| (PathBuf::new(), error));
    };
    program.canonicalize().map_err(|error| (program, error))
}

/// Returns the last upgrade of a sidecar as a row of its status, if there was one. `since` names the time
/// since a moment.
pub(super) fn row(status: &Status, since: impl Fn(UnixMillis) -> String) -> String {
    let anchored = status.anchored.as_ref();
    let last = anchored.and_then(|anchored| anchored.last_upgrade.as_ref());
    let row = |last: &UpgradeStatus| format!("  {}\n", line(last, &since(last.at_ms)));
    last.map(row).unwrap_or_default()
}

/// Returns an upgrade as a line, with the time since then.
pub(super) fn line(upgrade: &UpgradeStatus, since: &str) -> String {
    let UpgradeStatus {
        from,
        to,
        took_ms,
        in_flight,
        ..
    } = upgrade;
    let took = humantime::format_duration(Duration::from_millis(*took_ms));
    let in_flight = count(*in_flight, "request");
    format!(
        "handoff {from} was upgraded to {to} {since} ago, in {took}, with {in_flight} in flight"
    )
}
