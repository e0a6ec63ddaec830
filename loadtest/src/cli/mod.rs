//! The command line, parsed into final types.

pub mod bench;
pub mod compare;
pub mod run;
pub mod soak;
pub mod url;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Offer load at a fixed rate while releases of sample-app are swapped, and count what clients saw
///
/// Exits 0 when no request failed and clients saw every swap, 1 otherwise, 2 on wrong usage.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Requests a second, offered whether or not answers keep up
    #[arg(
        long,
        value_name = "N",
        default_value = RATE,
        default_value_if("windows", "true", WINE_RATE)
    )]
    pub rate: NonZeroU32,

    /// Kept connections; they carry half of the requests, the other half opens one each
    #[arg(long, value_name = "N", default_value = "64")]
    pub connections: NonZeroUsize,

    /// Number of deploys of the next release
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub swaps: u32,

    /// Time from clients seeing a release to the deploy of the next
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub swap_every: Duration,

    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub json: Option<PathBuf>,

    /// Way in which releases are swapped
    #[arg(long, value_enum, default_value_t)]
    pub strategy: StrategyName,

    /// Way in which handoff is given the next release
    #[arg(long, value_enum, default_value_t)]
    pub deploy_by: DeployBy,

    /// Test the Windows program under Wine, which `.ci/wine` sets up; 50 requests a second unless
    /// --rate says more
    #[arg(long)]
    pub windows: bool,

    /// Keep the temporary folder with the releases, the state and the log
    #[arg(long)]
    pub keep: bool,

    /// Use the handoff and sample-app binaries in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// Default rate. A dev build is slow, and a slow program on a busy machine would be tested for that.
pub const RATE: &str = if cfg!(debug_assertions) {
    "200"
} else {
    "1000"
};

/// Default rate under Wine, where every wait for a socket is a request to its one server.
pub const WINE_RATE: &str = "50";

/// A command other than the demo.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<run::Options>),
    Compare(Box<compare::Options>),
    Prove(Box<soak::Options>),
    Bench(bench::Options),
    Instructions(bench::InstructionsOptions),
}

/// A way to swap releases.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum StrategyName {
    /// handoff owns the port and swaps releases behind it
    #[default]
    Handoff,
    /// The app owns the port: stop it, replace its file, start it again
    Restart,
}

/// A way to give handoff the next release.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeployBy {
    /// Name it, with its digest, in the pointer file
    #[default]
    Pointer,
    /// Overwrite the artifact in place
    Overwrite,
    /// Copy it into the watched folder
    Watch,
}

impl DeployBy {
    /// Returns the name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pointer => "pointer",
            Self::Overwrite => "overwrite",
            Self::Watch => "watch",
        }
    }
}

/// Parses the name of a file; fails before the run, not after it, if the file could not be written.
fn file_in_a_folder(value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err("this is a folder; name a file in it".to_owned());
    }
    if !folder.is_dir() {
        return Err(format!(
            "there is no folder {}; make it first",
            folder.display()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_arguments_are_the_demo() {
        Options::command().debug_assert();
        let options = Options::try_parse_from(["loadtest"]).unwrap();
        assert!(options.command.is_none());
        assert_eq!(options.rate.to_string(), RATE);
        assert_eq!(options.connections.get(), 64);
        assert_eq!(options.swaps, 10);
        assert_eq!(options.swap_every, Duration::from_secs(2));
        assert_eq!(options.strategy, StrategyName::Handoff);
        assert_eq!(options.deploy_by, DeployBy::Pointer);
    }

    #[test]
    fn wine_is_asked_for_less() {
        let rate = |arguments: &[&str]| Options::try_parse_from(arguments).unwrap().rate.get();
        assert_eq!(rate(&["loadtest", "--windows"]), 50);
        assert_eq!(rate(&["loadtest", "--windows", "--rate", "70"]), 70);
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for arguments in [
            &["loadtest", "--rate", "0"][..],
            &["loadtest", "--connections", "0"],
            &["loadtest", "--strategy", "hope"],
            &["loadtest", "--swap-every", "soon"],
            &["loadtest", "--json", "/no/such/folder/out.json"],
            &["loadtest", "extra"],
            &["loadtest", "--rate", "10", "bench"],
        ] {
            let error = Options::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
