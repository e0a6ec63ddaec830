//! `handoff upgrade`: another version of handoff goes on.

use std::env;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::ExitStatus;
use super::control;
use crate::cli::control::UpgradeArgs;
use crate::cli::output::{OutputFormat, eprint_line};
use crate::deployment::desired::{ControlCommand, UpgradeCommand};

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
