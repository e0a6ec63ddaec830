//! The command lines of `bench` and `instructions`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::file_in_a_folder;

/// Measure handoff beside other proxies with wrk, ab and h2load, on Linux
///
/// Every proxy stands in front of the same nginx. With --check it exits 0 only when every figure was
/// measured and holds.
#[derive(Debug, Args)]
pub struct Options {
    /// Install the missing proxies (nginx, haproxy, caddy) and tools (wrk, ab, h2load, valgrind) with
    /// apt-get; starts no service
    #[arg(long)]
    pub install: bool,

    /// Also measure memory, and exit 1 when a figure does not hold or could not be measured
    #[arg(long)]
    pub check: bool,

    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub json: Option<PathBuf>,

    /// Measure in shorter rounds, with noisier figures; memory takes its time all the same
    #[arg(long)]
    pub quick: bool,

    /// Measure only this case; may be repeated
    #[arg(long = "case", value_enum, value_name = "NAME")]
    pub cases: Vec<CaseName>,

    /// Measure only this target, besides the direct way; may be repeated
    #[arg(long = "target", value_enum, value_name = "NAME")]
    pub targets: Vec<TargetName>,

    /// Measure nothing but this of handoff alone, and exit 1 when a figure does not hold; may be
    /// repeated
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["cases", "targets", "check", "json"])]
    pub alone: Vec<AloneName>,

    /// Use the handoff and sample-app binaries in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// Count handoff's instructions for each request with callgrind, on Linux
///
/// Without --check the figures are written to loadtest/results/instructions.json.
#[derive(Debug, Args)]
pub struct InstructionsOptions {
    /// Install valgrind with apt-get if it is missing
    #[arg(long)]
    pub install: bool,

    /// Write nothing, and exit 1 when a figure is above the committed one by more than the tolerance
    #[arg(long)]
    pub check: bool,

    /// Use the handoff and sample-app binaries in this folder instead of building them (profile
    /// release)
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// A case: what clients do.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CaseName {
    /// 60-byte answers on 64 kept connections (wrk)
    Small,
    /// 64 KiB answers on 16 kept connections (wrk)
    Medium,
    /// 1 MiB answers on 16 kept connections (wrk)
    Large,
    /// A new connection for each request, 64 at a time (ab)
    NewConnection,
    /// 1,000 connections with a request a second each (h2load)
    Idle,
    /// The load of small at half the rate that the slowest target reaches (h2load)
    HalfLoad,
    /// 60-byte answers on 10 streams of each of 20 connections of HTTP/2, from an app that speaks
    /// HTTP/1.1 (h2load)
    H2c,
    /// The same from an app that speaks HTTP/2, too
    H2cApp,
}

/// Something to measure of handoff alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AloneName {
    /// Deploys beside processes with many descriptors, and beside many processes
    Crowd,
    /// Deploys of 200 MB and of 20,000 files, beside cp, sync and openssl
    Sizes,
    /// Processor time, wake-ups and memory while nothing happens, with and without connections
    Rest,
}

/// A target of the load.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TargetName {
    /// The backend itself
    Direct,
    /// HAProxy as a TCP relay
    Relay,
    Nginx,
    Haproxy,
    Caddy,
    /// A program `pingora-proxy` in PATH
    Pingora,
    KamalProxy,
    Handoff,
    /// handoff with --admin, which counts requests for /metrics; only when it is named
    HandoffMetrics,
}

// === impl Options ===

impl Options {
    /// Tells whether this target is to be measured.
    pub fn wants(&self, name: TargetName) -> bool {
        if self.targets.is_empty() {
            name != TargetName::HandoffMetrics
        } else {
            self.targets.contains(&name)
        }
    }
}

/// Returns the name on the command line.
pub fn name_of(value: impl ValueEnum + Copy) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
