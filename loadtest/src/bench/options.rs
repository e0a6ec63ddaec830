//! The options of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::file_in_a_folder;

/// Measure handoff beside other proxies, in front of the same backend, on Linux.
///
/// With --check it exits 0 only when every figure was measured and holds.
#[derive(Debug, Args)]
pub struct Options {
    /// Install nginx, haproxy and caddy with apt-get where they are missing; starts no service
    #[arg(long)]
    pub install: bool,

    /// Also measure memory, and exit 1 when a figure does not hold or could not be measured
    #[arg(long)]
    pub check: bool,

    /// Also write everything here, as JSON
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub json: Option<PathBuf>,

    /// Shorter rounds: noisier figures. What --check measures of memory takes its time all the same
    #[arg(long)]
    pub quick: bool,

    /// Only this case; may be repeated
    #[arg(long = "case", value_enum, value_name = "NAME")]
    pub cases: Vec<CaseName>,

    /// Only this target, besides the direct way; may be repeated
    #[arg(long = "target", value_enum, value_name = "NAME")]
    pub targets: Vec<TargetName>,

    /// Use the handoff binary in this folder instead of building it
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// The app behind every proxy that `bench` measures.
#[derive(Debug, Args)]
pub struct BackendOptions {
    /// 0: the system chooses one. The address is the first line of the output
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseName {
    /// 60-byte answers on 64 kept connections
    Small,
    /// 1 MiB answers on 16 kept connections
    Large,
    /// A new connection a request, 64 at a time
    NewConnection,
    /// 1,000 connections with a request a second each
    Idle,
    /// As small, at half the rate that the slowest target reaches
    HalfLoad,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
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
    /// handoff with --admin, which counts requests for /metrics; only when it is asked for
    HandoffMetrics,
}

// === impl Options ===

impl Options {
    /// Whether this target is to be measured.
    pub fn wants(&self, name: TargetName) -> bool {
        match self.targets.is_empty() {
            true => name.is_customary(),
            false => self.targets.contains(&name),
        }
    }
}

// === impl CaseName ===

impl CaseName {
    /// As it is written on the command line.
    pub fn text(self) -> String {
        text(&self)
    }
}

// === impl TargetName ===

impl TargetName {
    /// Whether it is measured when no target is named.
    pub fn is_customary(self) -> bool {
        self != Self::HandoffMetrics
    }

    /// As it is written on the command line.
    pub fn text(self) -> String {
        text(&self)
    }
}

fn text(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}
