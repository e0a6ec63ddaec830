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
  0  the digest has been printed
  1  the artifact cannot be read
  2  the command line is invalid";

/// Print the SHA-256 of an artifact, for `sha256=` in a pointer file.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct PrintDigest {
    /// File, folder or archive
    path: PathBuf,

    /// Print the digest as a JSON object
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
