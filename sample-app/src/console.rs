//! Lines for whoever started the app.
//!
//! That may be gone already, and its pipes with it: the app goes on where `println!` would panic.

use std::fmt::Arguments;
use std::io::{self, Write};

/// A fact that a program waits for, on standard output.
pub(crate) fn announce(line: Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A remark for a person, on standard error.
pub(crate) fn remark(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "sample-app {line}");
}
