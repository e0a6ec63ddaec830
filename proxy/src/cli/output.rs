//! Output of commands that survives a closed stdout or stderr.
//!
//! `println!` and `eprintln!` would panic there: `… | head` stops reading, and a command that has
//! begun continues.

use std::fmt::Display;
use std::io::{self, Write as _};

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
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line to stderr.
pub fn eprint_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
