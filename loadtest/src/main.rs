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
//! [`mod@prove`] is the demo at length: more kinds of traffic, and what clients saw is joined with
//! what apps wrote down. [`mod@bench`] is another program: it compares handoff with other proxies.

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
mod demo;
mod interrupt;
mod metrics;
mod numbers;
mod pacer;
mod process;
mod progress;
mod prove;
mod release;
mod report;
mod result;
mod scenario;
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
