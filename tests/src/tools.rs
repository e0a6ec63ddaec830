//! Programs that some tests need and some machines lack.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::binaries::spawn;

/// Set, a skipped test is a failed one.
const REQUIRE_ALL: &str = "HANDOFF_REQUIRE_ALL";

/// Returns whether `tool` can be run, and reports it past the capture if not.
pub fn has(tool: &str) -> bool {
    let works = runs(tool, "--version");
    if !works {
        skip(tool);
    }
    works
}

/// Returns whether `tool` can be run: this argument makes it say something and end.
pub fn runs(tool: &str, argument: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg(argument).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let ended = spawn(&mut command).and_then(|mut child| child.wait());
    ended.is_ok_and(|status| status.success())
}

/// Says where everybody sees it that a test is skipped, for want of this.
pub fn skip(needed: &str) {
    let required = std::env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1");
    assert!(
        !required,
        "needs {needed}, and {REQUIRE_ALL}=1 forbids skipping"
    );
    // Past the capture of the test runner, which hides what a passed test prints.
    let _ = writeln!(std::io::stderr(), "skipped: needs {needed}");
}
