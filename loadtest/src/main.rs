//! The command line of loadtest; all else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use loadtest::cli::Options;

fn main() -> ExitCode {
    match loadtest::run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: failed to {error}");
            ExitCode::FAILURE
        }
    }
}
