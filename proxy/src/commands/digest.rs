//! `handoff digest`: prints the digest of an artifact.

use serde_json::json;

use super::ExitStatus;
use crate::cli::output::{eprint_line, print_json, print_line};
use crate::cli::queries::DigestArgs;
use crate::deployment::digest::digest;

const SCHEMA: u32 = 1;

/// Prints the digest on stdout.
pub fn run(options: &DigestArgs) -> ExitStatus {
    let DigestArgs { path, json } = options;
    match digest(path) {
        Ok(digest) => {
            if *json {
                print_json(&json!({"schema": SCHEMA, "sha256": digest.hex()}));
            } else {
                print_line(digest.hex());
            }
            ExitStatus::Done
        }
        Err(error) => {
            eprint_line(format_args!("handoff: cannot read {path:?}: {error}"));
            ExitStatus::Refused
        }
    }
}
