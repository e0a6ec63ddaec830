//! The command line of `handoff rollout`.

use clap::{Args, ValueEnum};

use super::control::FollowArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0  it is done; for `continue`, every live sidecar runs the artifact
  1  too many sidecars have refused the artifact, and all run the one before again; or the roll-out
     was ended by another command, or could not be written
  2  the command line is invalid, no deployment is found, or no roll-out is under way
  3  --timeout is over, or the roll-out was stopped, before every live sidecar runs the artifact; it
     stays as it is
  4  no sidecar runs";

/// Show or change a staged roll-out: a deploy with --at-most.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct RolloutArgs {
    /// Change to make
    #[arg(value_enum, default_value = "show")]
    pub(crate) action: RolloutAction,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

/// A change of a staged roll-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RolloutAction {
    /// Show how many sidecars run the artifact, and what each does
    Show,
    /// Let no further sidecar start the artifact
    Stop,
    /// Go on, also after the deploy was killed
    Continue,
    /// Return to what was deployed before, with all sidecars
    Back,
}
