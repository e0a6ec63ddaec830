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

mod attack;
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
mod release;
mod report;
mod result;
mod scenario;
mod site;
mod strategy;
mod summary;
mod traffic;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    match demo::run(&options) {
        Ok(demo::Verdict::Passed) => ExitCode::SUCCESS,
        Ok(demo::Verdict::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: failed to {error}");
            ExitCode::FAILURE
        }
    }
}
