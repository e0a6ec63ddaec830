//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use handoff::cli::rollout::RolloutAction;
use handoff::deployment::rollout::{AtMost, Rollout};

/// Brings releases from an object store to the machines that run handoff.
#[derive(Debug, Parser)]
#[command(name = "handoff-fleet", version, max_term_width = 100)]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// Command to run.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Deploy an artifact to all machines of a channel, and wait until they run it.
    ///
    /// Exit codes: 0 all machines that live run it; 1 a machine refused it and all return to the
    /// release before, or another deploy took its place; 2 the command line is invalid; 3 not in
    /// time: what is deployed stays; 4 no machine lives.
    Deploy(DeployOptions),
    /// Show or change a staged roll-out: a deploy with --at-most.
    ///
    /// Exit codes: as of `deploy`; 2 also if no staged roll-out is under way.
    Rollout(RolloutOptions),
    /// Show what the machines of a channel run.
    Status(StatusOptions),
    /// Try what is needed of the store, and name each right that is missing.
    ///
    /// Without --machine, writes and removes an object named check-…. Exit codes: 0 all is there; 1
    /// something is missing.
    Check(CheckOptions),
    /// Bring what is deployed to a folder of this machine, and its state back, until it is ended.
    Mirror(MirrorOptions),
}

/// Options of `deploy`.
#[derive(Debug, Args)]
pub struct DeployOptions {
    /// URL of the channel: s3://BUCKET/PATH or az://CONTAINER/PATH. Credentials come from the
    /// environment (AWS_…, AZURE_…) or from the identity of the machine.
    #[arg(value_name = "URL")]
    pub store: String,
    /// File or archive to deploy, or a folder, which is packed as .tar.gz.
    pub artifact: PathBuf,
    #[command(flatten)]
    pub pace: Pace,
    /// Maximum number of machines, or share of them (25%), that start the release at the same time: a
    /// staged roll-out. The first deploy of all is for all machines.
    #[arg(long, value_name = "N|P%")]
    pub at_most: Option<AtMost>,
    /// Number of machines that run the release before all others.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "at_most")]
    pub first: usize,
    /// Time for which the --first machines run the release before the others start it.
    #[arg(long, value_name = "DURATION", default_value = "0s", requires = "at_most", value_parser = humantime::parse_duration)]
    pub bake: Duration,
    /// Number of machines that may refuse the release; with more, all return to the one before.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "at_most")]
    pub tolerate: usize,
    /// Number of artifacts to keep in the store. Others that are older than a day, and that no machine
    /// is to run, are removed.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub keep: usize,
    /// Command that signs the order: it gets the name of a file, and writes `<file>.minisig`. For
    /// machines with --trust. --trust is the key that they have.
    #[arg(long, value_name = "COMMAND", requires = "trust")]
    pub sign_with: Option<String>,
    /// Public key of minisign: what was deployed before and is not signed with it is no release to
    /// return to.
    #[arg(long, value_name = "FILE", requires = "sign_with")]
    pub trust: Option<PathBuf>,
}

/// Pace of a command that waits for machines.
#[derive(Debug, Args)]
pub struct Pace {
    /// Maximum time to wait for the machines, or for each group of them.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Time between two looks at the machines.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    pub poll: Duration,
}

/// Options of `rollout`.
#[derive(Debug, Args)]
pub struct RolloutOptions {
    /// URL of the channel.
    #[arg(value_name = "URL")]
    pub store: String,
    /// Change to make.
    #[arg(value_enum, default_value = "show")]
    pub action: RolloutAction,
    #[command(flatten)]
    pub pace: Pace,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// URL of the channel.
    #[arg(value_name = "URL")]
    pub store: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print metrics for Prometheus.
    #[arg(long, conflicts_with = "json")]
    pub metrics: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// URL of the channel.
    #[arg(value_name = "URL")]
    pub store: String,
    /// Try what a machine needs, and that it cannot deploy.
    #[arg(long)]
    pub machine: bool,
}

/// Options of `mirror`.
#[derive(Debug, Args)]
pub struct MirrorOptions {
    /// URL of the channel.
    #[arg(value_name = "URL")]
    pub store: String,
    /// Pointer file that handoff watches. Artifacts are stored in `releases` beside it.
    #[arg(long, value_name = "FILE")]
    pub pointer: PathBuf,
    /// State folder of the sidecars, if `handoff run` has this option.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Time between two looks at the channel while nothing changes. It varies by a fifth.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = humantime::parse_duration)]
    pub poll: Duration,
    /// Public key of minisign: only what is signed with it is followed.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

// === impl DeployOptions ===

impl DeployOptions {
    /// Returns the staged roll-out that is asked for, of which nobody is named yet.
    pub fn policy(&self) -> Option<Rollout> {
        Some(Rollout {
            at_most: self.at_most?,
            first: self.first,
            bake_ms: u64::try_from(self.bake.as_millis()).unwrap_or(u64::MAX),
            tolerate: self.tolerate,
            ..Rollout::default()
        })
    }
}
