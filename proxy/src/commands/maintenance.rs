//! `handoff maintenance on` and `off`, and how `handoff status` shows it.

use std::fmt::Write as _;

use console::style;

use super::ExitStatus;
use super::control::run;
use crate::cli::control::{MaintenanceArgs, MaintenanceSwitch};
use crate::cli::output::{OutputFormat, eprint_line};
use crate::deployment::desired::{ControlCommand, MaintenanceCommand};
use crate::deployment::status::MaintenanceStatus;

/// Refuses new requests, or ends that.
pub fn run_maintenance(options: &MaintenanceArgs) -> ExitStatus {
    let follow = &options.follow;
    let command = match options.switch {
        MaintenanceSwitch::On => {
            let allow = options.allow.iter().map(ToString::to_string).collect();
            let maintenance = MaintenanceCommand::new(options.message.clone(), allow);
            ControlCommand::BeginMaintenance(maintenance)
        }
        MaintenanceSwitch::Off if options.message.is_some() || !options.allow.is_empty() => {
            eprint_line(format_args!(
                "handoff: --message and --allow belong to `handoff maintenance on`"
            ));
            return ExitStatus::Usage;
        }
        MaintenanceSwitch::Off => ControlCommand::EndMaintenance,
    };
    run(
        &follow.deployment,
        command,
        *follow.timeout,
        OutputFormat::from_flag(follow.json),
    )
}

/// Returns the lines about a maintenance that has lasted for so long.
pub(super) fn row(maintenance: &MaintenanceStatus, since: &str) -> String {
    let what = style("in maintenance").yellow();
    let mut text = format!("  {what} for {since}: new requests get 503");
    if !maintenance.allow.is_empty() {
        let allow = maintenance.allow.join(", ");
        let _ = write!(text, ", but not those from {allow}");
    }
    text.push('\n');
    if let Some(message) = &maintenance.message {
        let _ = writeln!(text, "    {message}");
    }
    text
}
