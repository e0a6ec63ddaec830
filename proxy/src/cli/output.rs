//! What a command says, to whoever still reads it: `… | head` does so for a while only, and what was
//! begun goes on to its end. (`println!` and `eprintln!` panic where nobody reads.)

use std::fmt::Display;
use std::io::{self, Write as _};

/// A line on stdout.
pub fn print_line(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on stderr.
pub fn eprint_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
