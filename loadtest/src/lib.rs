//! Load at a fixed rate while releases are swapped, and the count of what clients saw.
//!
//! ```text
//! commands: demo · run · prove · compare          bench · instructions
//!      │                                              │ wrk, ab, h2load, callgrind
//!      ▼                                              ▼
//! session ─▶ schedule ─deploys─▶ deploy (the server under test, by a strategy)
//!    │                              ▲ requests
//!    ├────▶ generator ──────────────┘─▶ outcomes ─▶ tally ◀─ ledger ◀─ journal
//!    └────▶ report (text, JSON, HTML)
//! ```
//!
//! Three threads: the pacer sleeps until the next request is due, one thread sends all requests, and
//! the main thread deploys, counts and prints. Latency counts from when a request was due, so that a
//! stall of the server shows in every request that it delayed.
//!
//! Exit code 0: no request failed and clients saw every swap. 1: otherwise. 2: wrong usage.

pub mod cli;
pub mod commands;
pub mod deploy;
#[cfg(target_os = "linux")]
pub mod fixtures;
pub mod generator;
pub mod histogram;
pub mod host;
pub mod journal;
pub mod ledger;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod session;
pub mod tally;
pub mod units;

use crate::cli::{Command, Options};
use crate::commands::CommandError;

/// Does what the options ask for; returns whether it passed. The text of an error fits "failed to {…}".
pub fn run(options: &Options) -> Result<bool, CommandError> {
    match &options.command {
        None => commands::demo::run(options),
        Some(Command::Run(options)) => commands::run::run(options),
        Some(Command::Prove(options)) => commands::soak::run(options),
        Some(command) => run_on_linux(command),
    }
}

#[cfg(target_os = "linux")]
fn run_on_linux(command: &Command) -> Result<bool, CommandError> {
    match command {
        Command::Compare(options) => commands::compare::run(options),
        Command::Bench(options) => commands::bench::run(options),
        Command::Instructions(options) => commands::instructions::run(options),
        Command::Run(options) => commands::run::run(options),
        Command::Prove(options) => commands::soak::run(options),
    }
}

/// Refuses: the other proxies are run with shell scripts and signals, and measured with /proc.
#[cfg(not(target_os = "linux"))]
fn run_on_linux(_command: &Command) -> Result<bool, CommandError> {
    let why = "run this command: it needs Linux; `run` offers the load anywhere";
    Err(CommandError::Other(why.to_owned()))
}
