//! The command line of `handoff check`.

use clap::Args;

use super::Run;

const EXIT_CODES: &str = "\
Exit codes:
  0  `handoff run` would work
  1  `handoff run` would fail: the artifact, a folder or the port cannot be used
  2  the command line or the configuration file is invalid";

/// Report whether `handoff run` with the same options would work, and what it would run.
///
/// Nothing is started, and nothing stays behind.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct CheckArgs {
    // First: the options of a run can be set in the environment, those of the check cannot.
    #[command(flatten)]
    pub run: Run,

    /// Print every option with its value and the origin of that value
    #[arg(long, help_heading = None::<&'static str>)]
    pub print: bool,

    /// Print the report as JSON
    #[arg(long, help_heading = None::<&'static str>)]
    pub json: bool,
}
