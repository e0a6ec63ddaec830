//! `handoff digest`: what a pointer file takes as `sha256=`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Ending;
use super::say::{print, tell};
use crate::deployment::digest::digest;

const SCHEMA: u32 = 1;

const EXIT_CODES: &str = "\
Exit codes:
  0  printed
  1  it cannot be read
  2  the command line makes no sense";

/// Print the SHA-256 of a file, a folder or an archive, as `sha256=` in a pointer file takes it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct PrintDigest {
    /// The artifact
    path: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Prints it on stdout.
pub fn run(options: &PrintDigest) -> Ending {
    let PrintDigest { path, json } = options;
    match digest(path) {
        Ok(digest) => {
            match json {
                true => print(json!({"schema": SCHEMA, "sha256": digest.hex()})),
                false => print(digest.hex()),
            }
            Ending::Done
        }
        Err(error) => {
            tell(format_args!("handoff: cannot read {path:?}: {error}"));
            Ending::Refused
        }
    }
}
