//! The command line as it is written. [`crate::config`] turns it into settings.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use self::check::CheckArgs;
use self::control::{
    AbortArgs, MaintenanceArgs, PauseArgs, PromoteArgs, RestartArgs, ResumeArgs, RollbackArgs,
    UpgradeArgs,
};
use self::deploy::DeployArgs;
use self::queries::{DigestArgs, HistoryArgs, LogsArgs, StatusArgs};
use self::rollout::RolloutArgs;
use self::values::with_conventions;
use crate::process::console::{self, ConsoleEvent};

pub mod check;
pub mod completions;
pub mod control;
pub mod deploy;
pub mod deployment;
pub mod handoff_toml;
pub mod origins;
pub mod output;
pub mod parse;
pub mod queries;
#[cfg(test)]
mod reference;
pub mod rollout;
pub mod run;
pub mod values;
pub(crate) mod words;

pub use run::Run;

/// Deploys an HTTP app without its users noticing.
///
/// A reverse proxy that keeps the public port, runs the app behind it, starts each new artifact
/// beside the old one, checks its health, switches the traffic in one step, and drains and stops the
/// old one.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, mut_subcommands(with_conventions))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Subcommands,
}

/// The subcommands. Their descriptions are at their options: one here would replace it in the help.
#[derive(Debug, Subcommand)]
pub enum Subcommands {
    Run(Box<Run>),
    Check(Box<CheckArgs>),
    Deploy(Box<DeployArgs>),
    Promote(Box<PromoteArgs>),
    Abort(Box<AbortArgs>),
    Status(Box<StatusArgs>),
    History(Box<HistoryArgs>),
    Logs(Box<LogsArgs>),
    Rollout(Box<RolloutArgs>),
    Rollback(Box<RollbackArgs>),
    Restart(Box<RestartArgs>),
    Pause(Box<PauseArgs>),
    Resume(Box<ResumeArgs>),
    Maintenance(Box<MaintenanceArgs>),
    Upgrade(Box<UpgradeArgs>),
    Digest(DigestArgs),
    /// Print a script that completes handoff's command line in a shell.
    #[command(after_help = "\
Exit codes:
  0  the script has been printed
  1  the script cannot be printed
  2  the command line is invalid")]
    Completions {
        /// Shell to print the script for
        shell: Shell,
    },
    /// Send a console event to a program from within its console. handoff starts itself for this.
    #[command(name = console::SUBCOMMAND, hide = true)]
    SendConsoleEvent {
        /// The event
        event: ConsoleEvent,
        /// Id of the program's first process
        pid: u32,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_help_says_all_there_is_to_say() {
        let mut command = Cli::command();
        for (name, says) in [
            ("run", "HANDOFF_DRAIN_TIMEOUT"),
            ("check", "nothing stays behind"),
            ("deploy", "puts back what was deployed before"),
            ("logs", "--log-file"),
            ("rollback", "refused until it is deployed again"),
            ("pause", "by its own clock"),
        ] {
            let help = command.find_subcommand_mut(name).unwrap();
            let help = help.render_long_help().to_string();
            // Wherever its lines are broken.
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains(says), "{name}: {help}");
        }
        for command in command.get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for option in command.get_opts() {
                let name = option.get_id();
                assert!(option.get_help().is_some(), "{name} is described");
                assert!(option.is_hide_env_values_set(), "{name} keeps its variable");
            }
        }
    }

    #[test]
    fn every_option_can_be_set_in_the_environment() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for option in run.get_opts() {
            let name = option.get_id().as_str().to_uppercase();
            let variable = option.get_env().and_then(|variable| variable.to_str());
            assert_eq!(variable, Some(format!("HANDOFF_{name}").as_str()));
        }
    }
}
