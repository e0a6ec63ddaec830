//! The command line of `handoff check`.

use clap::Args;

use super::Run;

const EXIT_CODES: &str = "\
Exit codes:
  0  handoff can run so
  1  it could not: artifact, folders or port are not as they should be
  2  the command line or the configuration file makes no sense";

/// Say whether `handoff run` with the same options would work, and what it would run.
///
/// Nothing is started, and nothing stays behind.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct CheckArgs {
    /// Show every option, and where its value came from
    #[arg(long, help_heading = "Check")]
    pub print: bool,

    /// Print it as JSON
    #[arg(long, help_heading = "Check")]
    pub json: bool,

    #[command(flatten)]
    pub run: Run,
}
