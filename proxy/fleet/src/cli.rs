//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

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
    /// Show what the machines of a channel run.
    Status(StatusOptions),
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
    /// Maximum time to wait for the machines.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
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
}
