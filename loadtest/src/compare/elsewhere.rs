//! The twin of `compare` where most of the contenders are missing.

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
#[error(
    "compare: the other ways to deploy are run as on Linux (shell scripts, signals, /proc), so it \
     runs on Linux only; `run` offers the load anywhere"
)]
pub struct CompareError;

/// Offer the same load to handoff and to other ways to deploy, on Linux
#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _any: Vec<String>,
}

/// # Errors
/// Always.
pub fn run(_options: &Options) -> Result<bool, CompareError> {
    Err(CompareError)
}
