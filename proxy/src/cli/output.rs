//! Output of commands that survives a closed stdout or stderr.
//!
//! `println!` and `eprintln!` would panic there: `… | head` stops reading, and a command that has
//! begun continues. Control characters are shown: some of the text comes from apps.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::os::terminal::{printable, printable_json};

/// The form of a command's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

impl OutputFormat {
    /// Returns the format that the flag `--json` asks for.
    pub fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Prints a line to stdout.
pub fn print_line(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", printable(&line.to_string()));
}

/// Prints a line to stderr.
pub fn eprint_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", printable(&line.to_string()));
}

/// Prints a line of JSON to stdout.
pub fn print_json(json: &serde_json::Value) {
    let _ = writeln!(io::stdout(), "{}", printable_json(&json.to_string()));
}

/// Prints text to stdout that has colours of ours in it, and no other control characters.
pub fn print_styled(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
