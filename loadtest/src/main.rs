//! Offers load at a fixed rate while releases are swapped, and counts what clients saw.
//!
//! ```text
//! scenario ─deploys─▶ strategy (the process under test)
//!                         ▲ requests
//! pacer ─due─▶ attack ─▶ client ─▶ wire      answer ─▶ check
//!                │ one outcome a request
//!                └──────▶ metrics ─▶ summary ─▶ report (text, JSON)
//! ```
//!
//! Three threads: the pacer sleeps until the next request is due, one thread does all requests,
//! and the main thread deploys, counts and prints. Latency counts from when a request was due,
//! so a stall of the server shows in every request that it delayed, not only in one.
//!
//! Exit code 0: no request failed and clients saw every swap. 1: otherwise. 2: usage.
//!
//! [`mod@run`] offers the same to a server that runs already, and deploys by a command.
//! [`mod@compare`] does it in turn with handoff and with other ways to deploy. [`mod@prove`] is the
//! demo at length: more kinds of traffic, and what clients saw is joined with what apps wrote down.
//! [`mod@bench`] is another program: it compares handoff's speed with that of other proxies.

mod attack;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(not(target_os = "linux"))]
#[path = "bench/elsewhere.rs"]
mod bench;
mod binaries;
mod check;
mod cli;
mod client;
#[cfg(target_os = "linux")]
mod compare;
#[cfg(not(target_os = "linux"))]
#[path = "compare/elsewhere.rs"]
mod compare;
mod demo;
#[cfg(target_os = "linux")]
mod install;
mod interrupt;
mod load;
mod metrics;
mod numbers;
mod pacer;
mod process;
mod progress;
mod prove;
mod release;
mod report;
mod result;
mod run;
mod scenario;
mod scratch;
mod site;
mod strategy;
mod summary;
mod system;
mod traffic;
mod websocket;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Command;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    let passed = match &options.command {
        None => demo::run(&options)
            .map(|verdict| verdict == demo::Verdict::Passed)
            .map_err(|error| error.to_string()),
        Some(Command::Run(options)) => run::run(options).map_err(|error| error.to_string()),
        Some(Command::Compare(options)) => compare::run(options).map_err(|error| error.to_string()),
        Some(Command::Bench(options)) => bench::run(options).map_err(|error| error.to_string()),
        Some(Command::Prove(options)) => prove::run(options).map_err(|error| error.to_string()),
        Some(Command::BenchBackend(options)) => {
            bench::serve(options).map_err(|error| error.to_string())
        }
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: failed to {error}");
            ExitCode::FAILURE
        }
    }
}
